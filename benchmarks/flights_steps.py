"""
The steps of the flights benchmark: plain functions over plain values, with no word of the library in them.

They run wherever `etl_flights.py` has its tasks run: in its own process, in threads or in children. A value
that goes from one step to the next is a few columns (arrays of numbers, lists of shared strings) or a small
dictionary: a million dictionaries would cost more to pickle than to compute.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import shutil
import sqlite3
import sys
import zipfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

LOG = logging.getLogger("flights")

# Stands for "NA" in a column of numbers, which cannot hold None; the database gets NULL for it.
MISSING = -32768

DAY = 24 * 60
EPOCH = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

# An airliner of 2013 does not fly faster over the ground, jet stream included: air_time must be wrong.
FASTEST_MPH = 650

# Above every wind ever measured at the ground: one reading says 1048 mph.
STRONGEST_WIND_MPH = 250

# A reading up to this old stands in for one that is missing.
OLDEST_READING_HOURS = 3

# From gate to gate less the time in the air: more means that the clocks disagree, by a wrong time zone or
# day.
LONGEST_TAXI_MINUTES = 4 * 60

# A delay of this size counts as late (the airlines' own limit), and can be handed on to the aircraft's next
# flight if that is scheduled within so many hours.
LATE_MINUTES = 15
KNOCK_ON_HOURS = 12

KNOTS_PER_MPH = 1 / 1.15078

Column: TypeAlias = "list[str] | array[int]"  # in quotes: no array can be subscripted before Python 3.12
Columns = list[Column]
Reading = tuple[int, int, int]  # wind in knots, where from in degrees, rain in hundredths of an inch
Weather = dict[tuple[str, int], Reading]  # by airport and hour UTC
Planes = dict[str, tuple[int, int]]  # {tail number: (year built, seats)}
Airport = tuple[float, float, int, int]  # latitude, longitude, hours behind UTC, whether it has summer time
Airports = dict[str, Airport]  # by code
Airlines = dict[str, str]  # {code: name}
Groups = dict[str, dict[str, list[int]]]  # {table: {key: MEASURES}}

MEASURES = ("flights", "cancelled", "departed", "dep_delay", "arrived", "arr_delay", "distance", "air_time")
TABLES = ("by_carrier", "by_route", "by_hour", "by_month", "by_weather", "by_age")


class Slice(NamedTuple):
    """Where one month lies in the flights file: bytes, and the number of its first line."""

    start: int
    end: int
    first_line: int


class Flight(NamedTuple):
    """One cleaned flight. Minutes are UTC since EPOCH for `scheduled`, of the day for `arr_clock`."""

    line: int
    month: int
    hour: int
    carrier: str
    tailnum: str
    origin: str
    dest: str
    scheduled: int
    summer_time: int
    dep_delay: int
    arr_delay: int
    arr_clock: int
    air_time: int
    distance: int
    speed: int
    delay_class: str
    other_day: int


class Circumstances(NamedTuple):
    """What the other tables know of one flight."""

    airline: str
    weather_age: int
    wind: int
    precip: int
    headwind: int
    plane_age: int
    seats: int
    taxi: int
    knock_on: int


class Month(NamedTuple):
    """A month's flights and their circumstances, row by row the same flights."""

    flights: Columns
    circumstances: Columns


def to_columns(rows: Iterable[tuple[object, ...]]) -> Columns:
    """Rows to columns; at least one row, or there is no telling a column's type."""
    return [_column(values) for values in zip(*rows, strict=True)]


def _column(values: tuple[object, ...]) -> Column:
    if isinstance(values[0], str):
        return list(cast("tuple[str, ...]", values))
    return array("i", cast("tuple[int, ...]", values))


def each_flight(columns: Columns) -> Iterator[Flight]:
    """Columns back to rows."""
    return map(Flight._make, zip(*columns, strict=True))


def split(archive: Path, target: Path) -> dict[int, Slice]:
    """Unpack the flights and find where each month lies, so that months can be read side by side."""
    with (
        zipfile.ZipFile(archive) as packed,
        packed.open("flights.csv") as source,
        target.open("wb") as unpacked,
    ):
        shutil.copyfileobj(source, unpacked)
    starts: list[tuple[int, int, int]] = []
    with target.open("rb") as lines:
        offset = len(next(lines))
        for number, line in enumerate(lines, start=2):
            month = int(line.split(b",", 2)[1])
            if not starts or starts[-1][0] != month:
                starts.append((month, offset, number))
            offset += len(line)
    ends = [start for _, start, _ in starts[1:]] + [offset]
    slices = {month: Slice(start, end, number) for (month, start, number), end in zip(starts, ends, strict=True)}
    if len(slices) != len(starts):
        message = f"{target.name}: a month lies in two places"
        raise ValueError(message)
    LOG.info("split %s into %d months", target.name, len(slices))
    return slices


def clean(path: Path, month: int, slices: dict[int, Slice]) -> Columns:
    """Read one month of flights: numbers, real times, speed and class of delay."""
    where = slices[month]
    with path.open("rb") as file:
        file.seek(where.start)
        lines = file.read(where.end - where.start).decode("ascii").splitlines()
    rows = [_clean_row(number, fields) for number, fields in enumerate(csv.reader(lines), start=where.first_line)]
    LOG.info("cleaned month %d: %d flights", month, len(rows))
    return to_columns(rows)


def _clean_row(line: int, fields: list[str]) -> Flight:
    """One line of the file. Strings are interned: a pickle then holds each once, not once a flight."""
    _, month, _, dep_time, sched_dep_time, dep_delay, arr_time, _, arr_delay = fields[:9]
    carrier, _, tailnum, origin, dest, air_time, distance, hour, minute, time_hour = fields[9:]
    scheduled_hour = _hours_since_epoch(time_hour)
    delay = _number(dep_delay)
    local = _clock(sched_dep_time)
    real = MISSING if delay == MISSING else local + delay
    if local != int(hour) * 60 + int(minute) or (real != MISSING and real % DAY != _clock(dep_time)):
        message = f"line {line}: the departure times disagree: {fields}"
        raise ValueError(message)
    late = _number(arr_delay)
    return Flight(
        line=line,
        month=int(month),
        hour=int(hour),
        carrier=sys.intern(carrier),
        tailnum=sys.intern("" if tailnum == "NA" else tailnum),
        origin=sys.intern(origin),
        dest=sys.intern(dest),
        scheduled=scheduled_hour * 60 + int(minute),
        # New York is four hours behind UTC in summer, five in winter.
        summer_time=int((scheduled_hour - int(hour)) % 24 == 4),
        dep_delay=delay,
        arr_delay=late,
        arr_clock=MISSING if arr_time == "NA" else _clock(arr_time),
        air_time=_number(air_time),
        distance=int(distance),
        speed=_speed(int(distance), _number(air_time)),
        delay_class=_delay_class(delay, late),
        other_day=int(real != MISSING and not 0 <= real < DAY),
    )


def _number(text: str) -> int:
    return MISSING if text == "NA" else int(text)


def _clock(hhmm: str) -> int:
    """Minutes of the day; the file says 2400 for a midnight that has been."""
    hours, minutes = divmod(int(hhmm), 100)
    return (hours * 60 + minutes) % DAY


def _hours_since_epoch(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // HOUR


def _speed(distance: int, air_time: int) -> int:
    if air_time == MISSING or distance * 60 > FASTEST_MPH * air_time:
        return MISSING
    return distance * 60 // air_time


def _delay_class(dep_delay: int, arr_delay: int) -> str:
    if dep_delay == MISSING:
        return "cancelled"
    if arr_delay == MISSING:
        return "diverted"
    if arr_delay <= 0:
        return "on time"
    return "slightly late" if arr_delay <= LATE_MINUTES else "late"


def read_weather(path: Path) -> Weather:
    """Hourly readings of the three airports, without the impossible ones."""
    weather: Weather = {}
    dropped = 0
    for row in _rows(path):
        if row["wind_speed"] != "NA" and float(row["wind_speed"]) > STRONGEST_WIND_MPH:
            dropped += 1
            continue
        weather[row["origin"], _hours_since_epoch(row["time_hour"])] = (
            _scaled(row["wind_speed"], KNOTS_PER_MPH),
            _number(row["wind_dir"]),
            _scaled(row["precip"], 100),
        )
    LOG.info("weather: %d readings, %d dropped", len(weather), dropped)
    return weather


def _scaled(text: str, factor: float) -> int:
    return MISSING if text == "NA" else round(float(text) * factor)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def read_planes(path: Path) -> Planes:
    """Year built (MISSING for some) and seats by tail number."""
    return {row["tailnum"]: (_number(row["year"]), int(row["seats"])) for row in _rows(path)}


def read_airports(path: Path) -> Airports:
    """Place and clock of each airport; "A" in the file is the summer time of the United States."""
    return {
        row["faa"]: (float(row["lat"]), float(row["lon"]), -int(row["tz"]), int(row["dst"] == "A"))
        for row in _rows(path)
    }


def read_airlines(path: Path) -> Airlines:
    """Names by carrier code."""
    return {row["carrier"]: row["name"] for row in _rows(path)}


def join(flights: Columns, weather: Weather, planes: Planes, airports: Airports, airlines: Airlines) -> Month:
    """Look up for each flight its weather, aircraft, destination and airline."""
    bearings: dict[tuple[str, str], float | None] = {}
    handed_on = _knock_on(flights)
    rows = []
    for flight in each_flight(flights):
        route = flight.origin, flight.dest
        if route not in bearings:
            bearings[route] = _bearing(airports.get(flight.origin), airports.get(flight.dest))
        age, (wind, direction, precip) = _weather_at(weather, flight)
        built, seats = planes.get(flight.tailnum, (MISSING, MISSING))
        rows.append(
            Circumstances(
                airline=airlines[flight.carrier],
                weather_age=age,
                wind=wind,
                precip=precip,
                headwind=_headwind(wind, direction, bearings[route]),
                plane_age=MISSING if built == MISSING else EPOCH.year - built,
                seats=seats,
                taxi=_taxi(flight, airports),
                knock_on=int(flight.line in handed_on),
            )
        )
    LOG.info("joined %d flights", len(rows))
    return Month(flights, to_columns(rows))


def _weather_at(weather: Weather, flight: Flight) -> tuple[int, Reading]:
    """The newest reading that is at most OLDEST_READING_HOURS old, and its age in hours."""
    hour = flight.scheduled // 60
    for age in range(OLDEST_READING_HOURS + 1):
        reading = weather.get((flight.origin, hour - age))
        if reading is not None:
            return age, reading
    return MISSING, (MISSING, MISSING, MISSING)


def _bearing(start: Airport | None, end: Airport | None) -> float | None:
    """Initial course of the great circle, in radians from north."""
    if start is None or end is None:
        return None
    here, there, east = math.radians(start[0]), math.radians(end[0]), math.radians(end[1] - start[1])
    across = math.sin(east) * math.cos(there)
    along = math.cos(here) * math.sin(there) - math.sin(here) * math.cos(there) * math.cos(east)
    return math.atan2(across, along)


def _headwind(wind: int, direction: int, bearing: float | None) -> int:
    """Knots against the course; negative is a tailwind. The direction of a wind is where it comes from."""
    if bearing is None or MISSING in (wind, direction):
        return MISSING
    return round(wind * math.cos(math.radians(direction) - bearing))


def _taxi(flight: Flight, airports: Airports) -> int:
    """Minutes from gate to gate not in the air; MISSING where a clock is missing or cannot be right."""
    there = airports.get(flight.dest)
    if there is None or MISSING in (flight.dep_delay, flight.arr_clock, flight.air_time):
        return MISSING
    _, _, behind_utc, has_summer_time = there
    behind_utc -= flight.summer_time and has_summer_time
    taxi = (flight.arr_clock + behind_utc * 60 - flight.scheduled - flight.dep_delay) % DAY - flight.air_time
    return taxi if 0 <= taxi <= LONGEST_TAXI_MINUTES else MISSING


def _knock_on(flights: Columns) -> set[int]:
    """Lines of the late departures whose aircraft had left New York late just before, in the same month."""
    legs: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for flight in each_flight(flights):
        if flight.tailnum and flight.dep_delay != MISSING:
            legs[flight.tailnum].append((flight.scheduled, flight.line, flight.dep_delay))
    lines = set()
    for plane in legs.values():
        plane.sort()
        for (before, _, delay_before), (scheduled, line, delay) in pairwise(plane):
            if min(delay_before, delay) > LATE_MINUTES and scheduled - before <= KNOCK_ON_HOURS * 60:
                lines.add(line)
    return lines


def group(month: Month) -> Groups:
    """Sum one month's measures by each key of each table."""
    groups: Groups = {table: {} for table in TABLES}
    circumstances = map(Circumstances._make, zip(*month.circumstances, strict=True))
    for flight, around in zip(each_flight(month.flights), circumstances, strict=True):
        measures = _measures(flight)
        for table, key in zip(TABLES, _keys(flight, around), strict=True):
            _add(groups[table], key, measures)
    return groups


def _measures(flight: Flight) -> tuple[int, ...]:
    departed, arrived = flight.dep_delay != MISSING, flight.arr_delay != MISSING
    return (
        1,
        not departed,
        departed,
        flight.dep_delay if departed else 0,
        arrived,
        flight.arr_delay if arrived else 0,
        flight.distance,
        flight.air_time if flight.air_time != MISSING else 0,
    )


def _keys(flight: Flight, around: Circumstances) -> tuple[str, ...]:
    """The flight's key in each of TABLES, in their order."""
    return (
        around.airline,
        f"{flight.origin}-{flight.dest}",
        f"{flight.hour:02}",
        f"{flight.month:02}",
        f"{_bucket(around.wind, (10, 20))} knots, {_bucket(around.precip, (1, 10))} rain",
        _bucket(around.plane_age, (5, 10, 15, 20)),
    )


def _bucket(value: int, limits: tuple[int, ...]) -> str:
    """The largest limit that the value has reached, as text."""
    if value == MISSING:
        return "unknown"
    return f"{max((limit for limit in limits if value >= limit), default=0):02}+"


def _add(sums: dict[str, list[int]], key: str, measures: Iterable[int]) -> None:
    old = sums.get(key)
    sums[key] = list(measures) if old is None else [a + b for a, b in zip(old, measures, strict=True)]


def merge(*months: Groups) -> Groups:
    """The year's sums from the months'."""
    year: Groups = {table: {} for table in TABLES}
    for month in months:
        for table, sums in month.items():
            for key, measures in sums.items():
                _add(year[table], key, measures)
    return year


def load(path: Path, weather: Weather, planes: Planes, groups: Groups, *months: Month) -> int:
    """Write everything into a new SQLite file; returns the number of flights."""
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    with database:
        _insert(
            database,
            "weather",
            ("origin", "hour", "wind", "direction", "precip"),
            ((*k, *v) for k, v in weather.items()),
        )
        _insert(database, "planes", ("tailnum", "built", "seats"), ((k, *v) for k, v in planes.items()))
        for table, sums in groups.items():
            _insert(database, table, ("key", *MEASURES), ((key, *sums[key]) for key in sorted(sums)))
        flights = (row for month in months for row in zip(*month.flights, *month.circumstances, strict=True))
        _insert(database, "flights", Flight._fields + Circumstances._fields, flights)
    (count,) = database.execute("SELECT COUNT(*) FROM flights").fetchone()
    database.close()
    LOG.info("loaded %d flights", count)
    return int(count)


def _insert(
    database: sqlite3.Connection, table: str, names: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> None:
    # The names are this module's own constants, so that building the statements from text is safe.
    database.execute(f"CREATE TABLE {table} ({', '.join(names)})")
    values = ", ".join([f"NULLIF(?, {MISSING})"] * len(names))
    database.executemany(f"INSERT INTO {table} VALUES ({values})", rows)  # noqa: S608


def summarize(path: Path, storm_days: list[str]) -> dict[str, int]:
    """Read the SQLite file again, as its users will: {name of a total: value}."""
    database = sqlite3.connect(path)
    totals = dict(database.execute(SUMMARY).fetchall())
    # In winter, when the storms were, New York is five hours behind UTC.
    stormy = """SELECT COUNT(*) FROM flights WHERE dep_delay IS NULL
                AND DATE('2013-01-01', (scheduled / 60 - 5) || ' hours') = ?"""
    totals["cancelled on storm days"] = sum(database.execute(stormy, (day,)).fetchone()[0] for day in storm_days)
    database.close()
    LOG.info("summary of %d totals", len(totals))
    return totals


def digest(path: Path) -> str:
    """A fingerprint of the content of all tables, whatever the bytes of the file look like."""
    seen = hashlib.sha256()
    database = sqlite3.connect(path)
    for (table,) in database.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall():
        seen.update(table.encode())
        for row in database.execute(f"SELECT * FROM {table} ORDER BY rowid"):  # noqa: S608
            seen.update(repr(row).encode())
    database.close()
    return seen.hexdigest()


SUMMARY = """
SELECT 'flights', COUNT(*) FROM flights
UNION ALL SELECT 'sum of lines', SUM(line) FROM flights
UNION ALL SELECT 'sum of dep_delay', SUM(dep_delay) FROM flights
UNION ALL SELECT 'sum of arr_delay', SUM(arr_delay) FROM flights
UNION ALL SELECT 'sum of distance', SUM(distance) FROM by_route
UNION ALL SELECT 'sum of air_time', SUM(air_time) FROM by_age
UNION ALL SELECT 'sum of speed', SUM(speed) FROM flights
UNION ALL SELECT 'speeds implausible', COUNT(*) FROM flights WHERE speed IS NULL AND air_time IS NOT NULL
UNION ALL SELECT 'in summer time', SUM(summer_time) FROM flights
UNION ALL SELECT 'departed on another day', SUM(other_day) FROM flights
UNION ALL SELECT 'tail numbers missing', COUNT(*) FROM flights WHERE tailnum = ''
UNION ALL SELECT delay_class, COUNT(*) FROM flights GROUP BY delay_class
UNION ALL SELECT 'from ' || origin, COUNT(*) FROM flights GROUP BY origin
UNION ALL SELECT 'month ' || key, flights FROM by_month
UNION ALL SELECT 'cancelled in month ' || key, cancelled FROM by_month WHERE key IN ('02', '10')
UNION ALL SELECT key, flights FROM by_carrier
UNION ALL SELECT 'arr_delay of ' || key, arr_delay FROM by_carrier
          WHERE key LIKE 'ExpressJet%' OR key LIKE 'Delta%'
UNION ALL SELECT 'hour ' || key, flights FROM by_hour WHERE key IN ('01', '08', '17')
UNION ALL SELECT 'dep_delay at hour 19', dep_delay FROM by_hour WHERE key = '19'
UNION ALL SELECT 'routes', COUNT(*) FROM by_route
UNION ALL SELECT 'JFK-LAX', flights FROM by_route WHERE key = 'JFK-LAX'
UNION ALL SELECT 'air_time of LGA-ATL', air_time FROM by_route WHERE key = 'LGA-ATL'
UNION ALL SELECT 'weather readings', COUNT(*) FROM weather
UNION ALL SELECT 'weather of age ' || IFNULL(weather_age, 'unknown'), COUNT(*) FROM flights
          GROUP BY weather_age
UNION ALL SELECT key, flights FROM by_weather
UNION ALL SELECT 'dep_delay at ' || key, dep_delay FROM by_weather WHERE key = '20+ knots, 10+ rain'
UNION ALL SELECT 'headwind over 10 knots', COUNT(*) FROM flights WHERE headwind > 10
UNION ALL SELECT 'sum of headwind', SUM(headwind) FROM flights
UNION ALL SELECT 'planes', COUNT(*) FROM planes
UNION ALL SELECT 'flights of known planes', COUNT(seats) FROM flights
UNION ALL SELECT 'sum of seats', SUM(seats) FROM flights
UNION ALL SELECT 'age ' || key, flights FROM by_age
UNION ALL SELECT 'taxi times', COUNT(taxi) FROM flights
UNION ALL SELECT 'sum of taxi times', SUM(taxi) FROM flights
UNION ALL SELECT 'knock-on delays', SUM(knock_on) FROM flights
"""
