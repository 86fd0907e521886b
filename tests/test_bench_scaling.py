"""`resnet-rs bench --scale`: its settings, figures, tables and words, from made-up samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from resnet_rs._core import cgroup_quota
from resnet_rs.bench.scaling.advice import advise
from resnet_rs.bench.scaling.cpus import Cpus
from resnet_rs.bench.scaling.figures import Row, calls_per_second, row_of
from resnet_rs.bench.scaling.measure import take_turns
from resnet_rs.bench.scaling.plot import plot_scaling
from resnet_rs.bench.scaling.result import Scaling
from resnet_rs.bench.scaling.settings import (
    Setting,
    counts,
    latency_settings,
    throughput_settings,
)
from resnet_rs.terminal.progress import Progress


def row(
    setting: tuple[int, int, int, int],
    images_per_second: float,
    p50_ms: float,
    p99_ms: float,
    spread: float = 0.02,
) -> Row:
    return Row(Setting(*setting), 100, images_per_second, p50_ms, p99_ms, spread)


def scaling(latency: list[Row], throughput: list[Row], cpus: Cpus) -> Scaling:
    rows = tuple({one.setting: one for one in (*latency, *throughput)}.values())
    return Scaling(
        version="1.2",
        cpu="A Processor",
        cpus=cpus,
        precision="f32",
        isa="avx2",
        winograd=True,
        height=224,
        width=192,
        rounds=10,
        seconds=5.0,
        rows=rows,
        latency=tuple(one.setting for one in latency),
        throughput=tuple(one.setting for one in throughput),
    )


# Two CPUs, with the same throughput in several ways.
LATENCY_2 = [row((1, 1, 1, 1), 38.0, 26.3, 27.0), row((1, 1, 2, 1), 70.4, 14.2, 15.1)]
THROUGHPUT_2 = [
    LATENCY_2[1],
    row((1, 1, 2, 8), 73.5, 108.8, 112.0),
    row((1, 2, 1, 1), 72.9, 27.4, 31.0),
    row((1, 2, 1, 8), 74.0, 216.0, 230.5),
    row((1, 2, 2, 1), 70.1, 28.4, 45.0),
    row((2, 1, 1, 1), 74.6, 26.9, 29.0),
]
CPUS_2 = Cpus(counted=2, machine=2, affinity=2, quota=None, asked_by=None)


class TestSettings:
    @pytest.mark.parametrize(
        ("cpus", "expected"),
        [
            (1, [1]),
            (2, [1, 2]),
            (6, [1, 2, 4, 6]),
            (16, [1, 2, 4, 8, 16]),
            (17, [1, 2, 4, 8, 16, 17]),
        ],
    )
    def test_counts_double_and_end_with_all_cpus(self, cpus: int, expected: list[int]) -> None:
        assert counts(cpus) == expected
        threads = [setting.threads for setting in latency_settings(cpus)]
        assert threads == expected

    def test_one_cpu_has_one_caller(self) -> None:
        expected = [Setting(1, 1, 1, batch) for batch in (1, 8, 32)]
        assert throughput_settings(1, processes=True) == expected

    def test_two_cpus(self) -> None:
        assert [str(setting) for setting in throughput_settings(2, processes=True)] == [
            "1 caller of 2 threads, batch 1",
            "1 caller of 2 threads, batch 8",
            "1 caller of 2 threads, batch 32",
            "2 callers of 1 thread, batch 1",
            "2 callers of 1 thread, batch 8",
            "2 callers of 2 threads, batch 1",
            "2 processes of 1 thread, batch 1",
            "2 processes of 1 thread, batch 8",
        ]

    def test_six_cpus_are_divided_in_whole_threads(self) -> None:
        settings = throughput_settings(6, processes=True)
        assert len(settings) == len(set(settings))
        divided = [s for s in settings if s.processes > 1 and s.batch == 1]
        assert divided == [Setting(2, 1, 3, 1), Setting(4, 1, 1, 1), Setting(6, 1, 1, 1)]
        callers = [s for s in settings if s.callers > 1 and s.threads > 1]
        assert callers == [Setting(1, 2, 3, 1), Setting(1, 6, 6, 1)]
        # Only the setting of a server's defaults has more threads than there are CPUs.
        assert [s for s in settings if s.busy > 6] == [Setting(1, 6, 6, 1)]

    def test_processes_can_be_left_out(self) -> None:
        assert {s.processes for s in throughput_settings(8, processes=False)} == {1}

    def test_callers_of_several_threads_take_turns(self) -> None:
        assert Setting(1, 2, 2, 1).takes_turns
        assert not Setting(1, 2, 1, 1).takes_turns
        assert not Setting(1, 1, 2, 1).takes_turns
        assert not Setting(2, 1, 2, 1).takes_turns


class TestFigures:
    def test_rate_of_one_caller_is_its_calls_by_their_time(self) -> None:
        assert calls_per_second([[(1.0, 1.5), (1.5, 2.0), (2.0, 3.0)]]) == pytest.approx(1.5)

    def test_rate_is_that_of_the_time_in_which_all_call(self) -> None:
        """From 1 to 3 the first caller makes two calls, and the other half of one and a whole."""
        first = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
        second = [(1.0, 2.0), (2.0, 4.0)]
        assert calls_per_second([first, second]) == pytest.approx((2 + 1 + 0.5) / 2)

    def test_rate_of_callers_that_take_turns_counts_no_waiting(self) -> None:
        """Three calls of a second, one after the other; the other caller's begin with a wait."""
        turn = [[(0.0, 1.0), (1.0, 3.0)], [(0.0, 2.0)]]
        assert calls_per_second(turn, takes_turns=True) == pytest.approx(1)
        assert row_of(Setting(1, 2, 2, 8), [turn]).images_per_second == pytest.approx(8)

    def test_one_call_each_is_enough(self) -> None:
        assert calls_per_second([[(0.0, 1.0)], [(0.0, 1.0)]]) == pytest.approx(2)

    @pytest.mark.parametrize("begin", [1.0, 3.0])
    def test_callers_that_never_meet_are_counted_over_all_their_time(self, begin: float) -> None:
        """A machine that is busy may let one caller begin when the other has ended."""
        turn = [[(0.0, 1.0)], [(begin, begin + 1.0)]]
        assert calls_per_second(turn) == pytest.approx(2 / (begin + 1))

    def test_row_has_the_median_rate_and_all_latencies(self) -> None:
        turns = [[[(0.0, 0.1), (0.1, 0.2)]], [[(5.0, 5.2)]], [[(9.0, 9.4)]]]
        found = row_of(Setting(1, 1, 2, 8), turns)
        assert found.calls == 4
        assert found.images_per_second == pytest.approx(8 / 0.2)
        # Ten, five and two and a half calls a second.
        assert found.spread == pytest.approx(7.5 / 5)
        assert found.p50_ms == pytest.approx(150)
        assert found.p99_ms == pytest.approx(float(np.percentile([100, 100, 200, 400], 99)))


class TestAdvice:
    def test_words_for_two_cpus(self) -> None:
        """Everything at 72.4 images/s or more counts as equal; two callers have fewest in work."""
        assert str(advise(LATENCY_2, THROUGHPUT_2, default_threads=2)) == (
            "For the lowest latency: 2 threads.\n"
            "    an image takes 14.2 ms (p99 15.1 ms); with 1 thread 26.3 ms\n"
            "    in Python:      model = resnet_rs.load(..., threads=2)\n"
            "    in a command:   --threads 2\n"
            "    for a program:  RESNET_RS_NUM_THREADS=2\n"
            "    It is the default here: nothing needs to be set.\n"
            "\n"
            "For the highest throughput: 2 callers of 1 thread each, 1 image a call.\n"
            "    72.9 images/s; a call takes 27.4 ms (p99 31.0 ms); the setting for latency makes "
            "70.4 images/s\n"
            "    in Python:      model = resnet_rs.load(..., threads=1)\n"
            "                    and 2 Python threads that share it, each with calls of 1 image\n"
            "    for a program:  RESNET_RS_NUM_THREADS=1\n"
            "\n"
            "Folders and model.stream divide the CPUs by themselves: nothing needs to be set.\n"
            "Settings within 3 % of the best count as equal; the smallest one is named."
        )

    def test_words_for_processes_and_for_threads_that_do_not_pay(self) -> None:
        latency = [
            row((1, 1, 1, 1), 22.5, 44.5, 46.0),
            row((1, 1, 8, 1), 121.0, 8.2, 9.0),
            row((1, 1, 16, 1), 123.0, 8.0, 11.0),
        ]
        throughput = [
            latency[2],
            row((1, 16, 1, 1), 210.0, 76.0, 90.0),
            row((4, 1, 4, 8), 282.0, 110.0, 120.0),
            row((16, 1, 1, 1), 290.0, 55.0, 60.0),
        ]
        text = str(advise(latency, throughput, default_threads=16)).splitlines()
        assert text[:6] == [
            "For the lowest latency: 8 threads.",
            "    an image takes 8.2 ms (p99 9.0 ms); with 1 thread 44.5 ms",
            "    in Python:      model = resnet_rs.load(..., threads=8)",
            "    in a command:   --threads 8",
            "    for a program:  RESNET_RS_NUM_THREADS=8",
            "",
        ]
        assert text[6:12] == [
            "For the highest throughput: 4 processes of 4 threads each, 8 images a call.",
            "    282.0 images/s; a call takes 110.0 ms (p99 120.0 ms); the setting for latency "
            "makes 121.0 images/s",
            "    in Python:      model = resnet_rs.load(..., threads=4)",
            "                    and fork 4 processes, each with calls of 8 images",
            "    for a server:   RESNET_RS_NUM_THREADS=4 gunicorn --preload --workers 4 ...",
            "",
        ]

    def test_words_for_one_cpu(self) -> None:
        alone = row((1, 1, 1, 1), 38.0, 26.3, 27.0)
        text = str(advise([alone], [alone, row((1, 1, 1, 8), 38.9, 205.0, 210.0)]))
        assert text.splitlines()[:10] == [
            "For the lowest latency: 1 thread.",
            "    an image takes 26.3 ms (p99 27.0 ms)",
            "    in Python:      model = resnet_rs.load(..., threads=1)",
            "    in a command:   --threads 1",
            "    for a program:  RESNET_RS_NUM_THREADS=1",
            "",
            "For the highest throughput: 1 caller of 1 thread, 1 image a call.",
            "    38.0 images/s; a call takes 26.3 ms (p99 27.0 ms)",
            "    in Python:      model = resnet_rs.load(..., threads=1)",
            "    for a program:  RESNET_RS_NUM_THREADS=1",
        ]

    def test_three_percent_count_as_equal_and_four_do_not(self) -> None:
        def chosen(ms: float, rate: float) -> tuple[int, int]:
            latency = [row((1, 1, 1, 1), rate, ms, ms), row((1, 1, 2, 1), 100.0, 10.0, 10.0)]
            advice = advise(latency, [latency[1]])
            return advice.latency.setting.threads, advice.throughput.setting.threads

        assert chosen(10.29, 97.1) == (1, 1)
        assert chosen(10.31, 96.9) == (2, 2)

    def test_fewer_cpus_come_first_then_callers_then_fewer_images(self) -> None:
        latency = [row((1, 1, 4, 1), 50.0, 10.0, 10.0)]
        ways = [
            row((1, 2, 1, 8), 100.0, 1.0, 1.0),
            row((1, 4, 1, 1), 100.0, 1.0, 1.0),
            row((1, 1, 4, 8), 100.0, 1.0, 1.0),
            row((4, 1, 1, 1), 100.0, 1.0, 1.0),
            row((1, 4, 4, 1), 100.0, 1.0, 1.0),
        ]
        for place in range(len(ways)):
            left = ways[place:]
            assert advise(latency, left[::-1]).throughput is left[0]


class TestText:
    def test_tables(self) -> None:
        text = str(scaling(LATENCY_2, THROUGHPUT_2, CPUS_2))
        advice = str(advise(LATENCY_2, THROUGHPUT_2, default_threads=2))
        assert text == (
            "resnet_rs    1.2, f32, avx2, Winograd on\n"
            "processor    A Processor\n"
            "CPUs         2, all that this machine has\n"
            "input        224 x 192, float32\n"
            "time         5 s a row, in 10 rounds over all rows\n"
            "\n"
            "latency: one caller, one image a call\n"
            "threads  p50 ms  p99 ms    gain  images/s\n"
            "      1    26.3    27.0  1.00 x      38.0\n"
            "      2    14.2    15.1  1.85 x      70.4\n"
            "\n"
            "throughput: ways to divide the CPUs, and the latency of a call\n"
            "side by side  threads each  batch  images/s  p50 ms  p99 ms\n"
            "1 caller                 2      1      70.4    14.2    15.1\n"
            "1 caller                 2      8      73.5   108.8   112.0\n"
            "2 callers                1      1      72.9    27.4    31.0\n"
            "2 callers                1      8      74.0   216.0   230.5\n"
            "2 callers                2      1      70.1    28.4    45.0  take turns\n"
            "2 processes              1      1      74.6    26.9    29.0\n"
            "\n" + advice
        )

    def test_json_has_every_figure_by_name(self) -> None:
        result = scaling(LATENCY_2, THROUGHPUT_2, CPUS_2).as_dict()
        assert json.loads(json.dumps(result)) == result
        rows = [*result.pop("latency"), *result.pop("throughput")]
        expected = [*LATENCY_2, *THROUGHPUT_2]
        assert [list(row.values()) for row in rows] == [
            [
                *(one.setting.processes, one.setting.callers, one.setting.threads),
                *(one.setting.batch, one.calls, one.images_per_second, one.p50_ms, one.p99_ms),
                one.spread,
            ]
            for one in expected
        ]
        chosen = result.pop("advice")
        assert chosen == {"latency": rows[1], "throughput": rows[4]}
        assert result == {
            "version": "1.2",
            "cpu": "A Processor",
            "cpus": {
                "counted": 2,
                "machine": 2,
                "affinity": 2,
                "quota": None,
                "asked_by": None,
            },
            "precision": "f32",
            "isa": "avx2",
            "winograd": True,
            "height": 224,
            "width": 192,
            "rounds": 10,
            "seconds": 5.0,
            "spread": 0.02,
        }

    def test_rounds_that_differ_are_told(self) -> None:
        def last_words(*spreads: float) -> str:
            rows = [row((1, 1, 1, 1 + i), 9.0, 9.0, 9.0, s) for i, s in enumerate(spreads)]
            return str(scaling(rows[:1], rows, CPUS_2)).split("is named.")[1]

        assert last_words(0.1, 0.01, 0.9) == ""
        assert last_words(0.254, 0.01, 0.9) == (
            "\nThe rounds differ by 25 %: other programs kept the machine busy. Measure again when "
            "it is\nquiet, or longer with --seconds."
        )


class TestCpus:
    @pytest.mark.parametrize(
        ("cpus", "text"),
        [
            (Cpus(2, 2, 2, None, None), "2, all that this machine has"),
            (Cpus(4, 16, 4, None, None), "4 of 16 (the affinity mask has 4)"),
            (Cpus(2, 16, 16, 2.0, None), "2 of 16 (the cgroup's quota is the time of 2 CPUs)"),
            (Cpus(1, 2, 2, 1.0, None), "1 of 2 (the cgroup's quota is the time of 1 CPU)"),
            (
                Cpus(3, 16, 4, 2.5, None),
                "3 of 16 (the affinity mask has 4; the cgroup's quota is the time of 2.5 CPUs)",
            ),
            (Cpus(4, 16, 16, None, "--threads"), "4 by --threads; usable: 16 of 16"),
            (
                Cpus(8, 16, 16, 2.5, "--threads"),
                "8 by --threads; usable: 3 of 16 (the cgroup's quota is the time of 2.5 CPUs)",
            ),
            (
                Cpus(8, 16, 4, 0.5, "OMP_NUM_THREADS"),
                "8 by OMP_NUM_THREADS; usable: 1 of 16 (the affinity mask has 4; the cgroup's "
                "quota is the time of 0.5 CPUs)",
            ),
        ],
    )
    def test_words(self, cpus: Cpus, text: str) -> None:
        assert str(cpus) == text

    def test_quota_of_version_2_is_the_smallest_on_the_way_up(self, tmp_path: Path) -> None:
        group = tmp_path / "sys/fs/cgroup/pod/box"
        group.mkdir(parents=True)
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/pod/box\n")
        assert cgroup_quota(tmp_path) is None
        (group / "cpu.max").write_text("max 100000\n")
        assert cgroup_quota(tmp_path) is None
        (group.parent / "cpu.max").write_text("250000 100000\n")
        assert cgroup_quota(tmp_path) == 2.5
        (group / "cpu.max").write_text("50000 100000\n")
        assert cgroup_quota(tmp_path) == 0.5

    @pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
    def test_quota_of_version_1(self, folder: str, tmp_path: Path) -> None:
        group = tmp_path / "sys/fs/cgroup" / folder / "docker/1"
        group.mkdir(parents=True)
        (tmp_path / "proc/self").mkdir(parents=True)
        lines = "12:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n2:cpuset:/\n"
        (tmp_path / "proc/self/cgroup").write_text(lines)
        (group / "cpu.cfs_period_us").write_text("100000\n")
        (group / "cpu.cfs_quota_us").write_text("-1\n")
        assert cgroup_quota(tmp_path) is None
        (group / "cpu.cfs_quota_us").write_text("150000\n")
        assert cgroup_quota(tmp_path) == 1.5

    def test_quota_of_a_container_that_sees_its_own_group_as_the_root(self, tmp_path: Path) -> None:
        root = tmp_path / "sys/fs/cgroup"
        root.mkdir(parents=True)
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/../other\n")
        (root / "cpu.max").write_text("300000 100000\n")
        assert cgroup_quota(tmp_path) == 3

    def test_no_cgroups_have_no_quota(self, tmp_path: Path) -> None:
        assert cgroup_quota(tmp_path) is None


def test_settings_take_turns_in_rounds() -> None:
    one, two = Setting(1, 1, 1, 1), Setting(1, 1, 2, 1)
    ran = []

    def run(setting: Setting, seconds: float) -> list[list[tuple[float, float]]]:
        ran.append((setting, seconds))
        return [[(0.0, float(len(ran)))]]

    turns = take_turns(run, [one, two], rounds=3, seconds=0.5, progress=Progress())
    assert ran == [(one, 0.5), (two, 0.5)] * 3
    assert turns[one] == [[[(0.0, 1.0)]], [[(0.0, 3.0)]], [[(0.0, 5.0)]]]


def test_plot_of_many_settings_is_written(tmp_path: Path) -> None:
    rows = [
        row((s.processes, s.callers, s.threads, s.batch), 10.0 * s.busy, 9.0 * s.batch, 99.0)
        for s in throughput_settings(16, processes=True)
    ]
    latency = [row((1, 1, s.threads, 1), 9.0, 90 / s.threads, 99.0) for s in latency_settings(16)]
    result = scaling(latency, [latency[-1], *rows[1:]], CPUS_2)
    plot_scaling(result, tmp_path / "scaling.png", note="2000-01-01")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
