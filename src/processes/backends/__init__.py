"""Ways to run attempts, behind one interface: `base.Backend`."""
