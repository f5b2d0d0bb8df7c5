"""README's "What happens when" promises nothing that no test holds: each row has tests that do what it tells of."""

import ast
import functools
from pathlib import Path

import pytest

from support.readme import README, tables

TESTS = Path(__file__).parent

#: {what happens, as README says it: the tests that let it happen}
HELD_BY = {
    "a task raises, `SystemExit` and `KeyboardInterrupt` included": [
        "integration/test_failures.py::test_exception_of_any_kind_is_told",
        "integration/test_failures.py::test_chain_has_causes_contexts_notes_and_frames",
        "integration/test_failures.py::test_failure_is_bounded_whatever_stands_in_its_locals",
        "integration/test_run.py::test_run_skips_what_depends_on_a_failure_and_nothing_else",
        "integration/test_run.py::test_run_takes_any_exception_for_the_failure_of_its_task",
    ],
    "it runs past its `timeout`, in Python or in C code that holds the GIL, deaf to signals or stopped": [
        "faults/test_faults.py::test_fault_fails_its_own_task",
        "faults/test_faults.py::test_faults_side_by_side_fail_their_own_tasks",
        "integration/test_failures.py::test_timeout_tells_where_c_code_holds_the_gil",
        "integration/test_pool_kill.py::test_descendants_are_gone_before_the_run_goes_on",
    ],
    "it segfaults, is killed, calls `os._exit`": [
        "faults/test_faults.py::test_deed_fails_its_own_task",
        "integration/test_pool.py::test_crash_among_queued_attempts_is_blamed_exactly",
        "integration/test_pool_kill.py::test_usage_of_a_killed_attempt_is_known",
    ],
    "it uses more than its `memory_limit`, its children counted in": [
        "faults/test_faults.py::test_fault_fails_its_own_task",
        "faults/test_faults.py::test_faults_side_by_side_fail_their_own_tasks",
    ],
    "tasks together use more than the pool's `memory_budget`": [
        "integration/test_pool_limits.py::test_budget_that_is_passed_ends_the_largest",
        "integration/test_pool_limits.py::test_task_waits_for_room_in_the_budget",
        "integration/test_pool_limits.py::test_task_waits_until_what_others_use_has_room_for_it",
    ],
    "it prints": [
        "integration/test_output.py::test_output_without_capture_is_the_programs_own",
        "integration/test_output.py::test_output_stands_at_its_place_among_the_records",
        "integration/test_output.py::test_output_of_a_child_that_dies_is_there",
    ],
    "it logs, with any logger": [
        "integration/test_task_logs.py::test_log_has_what_any_logger_says_in_the_task",
        "integration/test_task_logs.py::test_log_has_a_record_of_the_tasks_own_logger_once",
        "integration/test_task_logs.py::test_records_reach_the_application_once_at_its_level",
        "integration/test_task_logs.py::test_handler_on_the_tasks_logger_gets_what_the_task_logs",
        "integration/test_log_delivery.py::test_many_lines_of_workers_that_are_killed_are_all_there",
    ],
    "it starts processes, also daemons in sessions of their own": [
        "integration/test_pool_kill.py::test_descendants_are_gone_before_the_run_goes_on",
        "integration/test_pool_kill.py::test_daemon_that_a_task_leaves_ends_with_the_run",
    ],
    "it forks, and both sides come back or raise": [
        "integration/test_pool.py::test_task_that_forks_returns_once",
        "integration/test_spoiled_workers.py::test_fork_that_raises_says_nothing_of_its_task",
    ],
    "it changes the working directory, environment, umask, signal handlers, timers, standard streams, `sys.path`, "
    "recursion limit, tracing, warnings filters, logging, start method, event loop, decimal precision": [
        "integration/test_spoiled_workers.py::test_next_task_finds_everything_as_it_was",
        "integration/test_spoiled_workers.py::test_short_attempts_find_everything_as_it_was",
        "integration/test_spoiled_workers.py::test_records_arrive_after_a_task_configured_logging",
    ],
    "it leaves threads or processes running, or closes descriptors that it had not opened": [
        "integration/test_spoiled_workers.py::test_worker_with_leftovers_is_replaced",
        "integration/test_spoiled_workers.py::test_leftovers_of_a_task_are_told_once",
    ],
    "its arguments do not pickle": [
        "integration/test_pool.py::test_unpicklable_arguments_are_refused_together",
    ],
    "its result does not pickle, or cannot be loaded again": [
        "integration/test_pool.py::test_unpicklable_result_fails_its_task",
        "integration/test_pool.py::test_result_that_cannot_be_loaded_fails_its_task",
        "integration/test_failures.py::test_result_of_any_kind_harms_nobody",
    ],
    "it returns a coroutine or a generator": [
        "integration/test_coroutines.py::test_coroutine_function_runs_in_a_loop_of_its_own",
        "integration/test_coroutines.py::test_generator_function_is_refused",
    ],
    "a value is large": [
        "integration/test_pool_values.py::test_bytes_of_any_size_arrive",
        "integration/test_pool_values.py::test_array_is_writable_and_nobody_elses",
        "integration/test_pool_values.py::test_parent_does_not_hold_what_passes_between_children",
        "integration/test_pool_values.py::test_large_argument_of_many_tasks_is_pickled_once",
    ],
    "it raises what `retry_on` lists (default: `ConnectionError`, `TimeoutError`) and has `retries`": [
        "integration/test_run.py::test_run_retries_until_it_works",
        "integration/test_run.py::test_run_retries_only_what_may_pass",
        "integration/test_run.py::test_run_waits_before_a_retry",
    ],
    "the `deadline` passes": [
        "integration/test_run.py::test_run_at_its_deadline_ends_what_runs_and_skips_the_rest",
        "integration/test_pool_kill.py::test_deadline_kills_what_runs_and_skips_the_rest",
    ],
    "children cannot start, or the initializer raises": [
        "integration/test_pool.py::test_keeper_that_dies_twice_ends_the_run",
        "integration/test_pool.py::test_initializer_that_fails_ends_the_run",
        "integration/test_pool.py::test_initializer_that_ends_its_worker_ends_the_run",
    ],
    "you press Ctrl-C": [
        "acceptance/test_signals.py::test_ctrl_c_on_a_terminal",
        "acceptance/test_signals.py::test_second_ctrl_c_does_not_wait",
        "integration/test_interrupt.py::test_interrupt_carries_what_had_happened",
    ],
    "your program gets SIGTERM, or SIGHUP since its terminal closed": [
        "acceptance/test_signals.py::test_signal_to_the_program_alone",
        "acceptance/test_signals.py::test_signal_to_the_whole_group",
        "acceptance/test_signals.py::test_terminal_that_is_closed",
        "integration/test_interrupt.py::test_handler_of_the_program_is_called_and_the_run_goes_on",
    ],
    "you call `process.check(parallel)` before": [
        "integration/test_check.py::test_every_problem_is_found_at_once",
        "integration/test_check.py::test_check_is_quick_and_starts_nothing",
    ],
    "the folder of a logfile is gone, or a limit cannot be kept": [
        "integration/test_check.py::test_run_refuses_a_lost_log_folder",
        "integration/test_run.py::test_run_here_refuses_a_memory_limit",
    ],
    "your program is killed": [
        "integration/test_pool_kill.py::test_parent_that_dies_takes_everything_along",
        "integration/test_pool_kill.py::test_parent_that_dies_takes_idle_workers_along",
    ],
    "the disk is full, the folder of a logfile goes during the run, a handler or formatter raises": [
        "integration/test_log_troubles.py::test_full_disk_costs_the_lines",
        "integration/test_log_troubles.py::test_folder_that_goes_during_a_run_costs_the_lines",
        "integration/test_log_troubles.py::test_formatter_that_raises_costs_the_lines",
        "integration/test_log_troubles.py::test_handler_on_the_tasks_logger_that_raises_costs_nobody_else_a_record",
    ],
    "the program may open few files (`ulimit -n`)": [
        "acceptance/test_small_machines.py::test_workers_are_as_many_as_64_descriptors_allow",
        "acceptance/test_small_machines.py::test_logfiles_of_all_tasks_are_written_with_64_descriptors",
        "integration/test_pool_values.py::test_results_without_descriptors_left_are_no_successes",
    ],
    "the container has one CPU or a quota, is read-only, lacks `/dev/shm`, `/proc`, `HOME` or standard streams, "
    "refuses memfds or pidfds, or has your program as PID 1": [
        "acceptance/test_small_machines.py::test_one_cpu_is_one_worker",
        "acceptance/test_small_machines.py::test_half_a_cpu_is_one_worker",
        "unit/test_usage.py::test_usable_cpus_are_affinity_cut_by_quota",
        "acceptance/test_small_machines.py::test_small_run_where_only_the_log_folder_can_be_written",
        "acceptance/test_small_machines.py::test_small_run_without_shared_memory",
        "acceptance/test_small_machines.py::test_small_run_without_proc",
        "acceptance/test_small_machines.py::test_small_run_without_a_home",
        "acceptance/test_small_machines.py::test_small_run_without_standard_streams",
        "acceptance/test_small_machines.py::test_small_run_without_system_calls",
        "acceptance/test_small_machines.py::test_small_run_as_pid_1",
        "acceptance/test_small_machines.py::test_pid_1_is_left_no_zombies",
    ],
}


@functools.cache
def running_in(path: str) -> frozenset[str]:
    """Names of the tests in a file that run: those that no mark skips or expects to fail."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not any(_lets_off(mark) for mark in node.decorator_list)
    )


def _lets_off(mark: ast.expr) -> bool:
    return any(word in ast.unparse(mark) for word in ("mark.skip", "mark.xfail"))


def test_every_row_of_what_happens_when_has_tests() -> None:
    """The rows of README are those that are held here, in its order: a new one needs a test, a lost one is missed."""
    (table,) = [table for table in tables(README, "What happens when") if table.head[0] == "what happens"]
    assert [row[0] for row in table.rows] == list(HELD_BY)


@pytest.mark.parametrize("happening", HELD_BY)
def test_what_happens_is_let_happen_by_tests(happening: str) -> None:
    """Those that are named are there, and run."""
    assert HELD_BY[happening]
    for node in HELD_BY[happening]:
        path, name = node.split("::")
        assert name.startswith("test_")
        assert name in running_in(path), f"{node} is none of the tests that run"
