"""Price lists: what a device costs by region and tier, and a hardware.yaml that keeps what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from mipplan.core import InputError
from mipplan.importers import PriceTier, Share, merge_hardware, read_prices
from mipplan.profiles import Hardware, read_hardware

LIST = (
    "provider,instance,accelerator,accelerator_count,accelerator_memory_gb,vcpus,memory_gib,region,"
    "on_demand_usd_per_hour,spot_usd_per_hour,suspect_dedicated_tenancy\n"
    "aws,g4dn.xlarge,T4,1,16.0,4,16.0,us-east-1,0.526,0.19,0\n"
    "aws,g4dn.xlarge,T4,1,16.0,4,16.0,eu-west-1,0.587,,0\n"
    "aws,p4d.24xlarge,A100,8,40.0,96,1152.0,us-east-1,32.7726,,0\n"
    "aws,c5.xlarge,,0,,4,8.0,us-east-1,0.17,0.07,0\n"
    "aws,c5.2xlarge,,0,,8,16.0,us-east-1,0.374,,1\n"
)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(LIST, encoding="utf-8")
    return path


def refused(path: Path, told: str, text: str | None = None, **options: object) -> None:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_prices(path, **options)  # type: ignore[arg-type]
    assert told in str(caught.value)


def test_devices_are_parts_of_instances(listed: Path) -> None:
    wanted = {"t4": Share("g4dn.xlarge"), "a100": Share("p4d.24xlarge", 8), "cpu": Share("c5.xlarge")}
    prices = read_prices(listed, region="us-east-1", hardware=wanted)
    assert [(entry.name, entry.usd_per_hour, entry.memory_gib) for entry in prices.hardware] == [
        ("t4", 0.526, 16.0),
        ("a100", 32.7726 / 8, 40.0),
        ("cpu", 0.17, 8.0),
    ]
    source = (
        f"list.csv:4 sha256:{prices.sha256[:16]} | aws p4d.24xlarge (A100) in us-east-1, on-demand, 1/8 of it"
    )
    assert prices.hardware[1].source == source


def test_memory_is_left_out_where_a_part_is_no_single_device(listed: Path) -> None:
    wanted = {"all": Share("p4d.24xlarge"), "half": Share("c5.xlarge", 2)}
    prices = read_prices(listed, region="us-east-1", hardware=wanted)
    assert [entry.memory_gib for entry in prices.hardware] == [None, None]


def test_every_instance_by_default_and_doubtful_ones_are_left_out(listed: Path) -> None:
    prices = read_prices(listed, region="us-east-1")
    assert [entry.name for entry in prices.hardware] == ["g4dn.xlarge", "p4d.24xlarge", "c5.xlarge"]
    assert [fault.message for fault in prices.refused] == [
        "c5.2xlarge: the price is probably that of dedicated tenancy"
    ]
    spot = read_prices(listed, region="us-east-1", tier=PriceTier.SPOT)
    assert {entry.name: entry.usd_per_hour for entry in spot.hardware} == {
        "g4dn.xlarge": 0.19,
        "c5.xlarge": 0.07,
    }
    assert "p4d.24xlarge has no spot price" in [fault.message for fault in spot.refused]


def test_catalogues_of_skypilot_have_other_columns(listed: Path) -> None:
    text = (
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone\n"
        "n1-highmem-8,,,8.0,52.0,,0.473212,0.099624,us-central2,us-central2-b\n"
        ",tpu-v4-8,1,,,tpu-v4-8,12.88,3.864,us-central2,us-central2-b\n"
    )
    listed.write_text(text, encoding="utf-8")
    prices = read_prices(listed, tier="spot")
    assert [(entry.name, entry.usd_per_hour, entry.memory_gib) for entry in prices.hardware] == [
        ("n1-highmem-8", 0.099624, 52.0),
        ("tpu-v4-8", 3.864, None),
    ]


@pytest.mark.parametrize(
    ("told", "text", "options"),
    [
        ("tier: expected one of on-demand, spot, reserved, found 'monthly'", None, {"tier": "monthly"}),
        ("tier: ", None, {"tier": "reserved", "region": "us-east-1"}),
        ("region: ", None, {}),
        ("has no region 'us-east1'; did you mean 'us-east-1'?", None, {"region": "us-east1"}),
        (
            "has no instance 'g4dn.large' here; did you mean 'g4dn.xlarge'?",
            None,
            {"hardware": {"t4": Share("g4dn.large")}},
        ),
        ("no row is left", None, {"where": {"provider": "gcp"}}),
        ("has no column 'cloud'", None, {"where": {"cloud": "gcp"}}),
        (":2: on_demand_usd_per_hour: expected a number, found 'free'", LIST.replace("0.526", "free"), {}),
        (":2: on_demand_usd_per_hour: expected a finite number above 0", LIST.replace("0.526", "-1"), {}),
        (":2: on_demand_usd_per_hour: expected a price from", LIST.replace("0.526", "1e9"), {}),
        (":2: on_demand_usd_per_hour: expected a number, found 'nan'", LIST.replace("0.526", "nan"), {}),
        ("list.csv:6: expected 11 values as in the header, found 10", LIST[:-3], {}),
        ("several on-demand prices (0.526 at ", LIST.replace("eu-west-1", "us-east-1"), {}),
        ("is no price list", "a,b\n1,2\n", {}),
        ("prices single vCPUs and GiB", "resource,region,on_demand_usd_per_unit_hour\nram,x,1\n", {}),
        ("is empty", "", {}),
        ("has no row below its header".replace("has", "holds"), LIST.splitlines()[0] + "\n", {}),
        ("names none", "instance,Price\nx,1\n", {"region": "us-east-1"}),
        ("begins or ends with a blank", None, {"hardware": {" t4": Share("g4dn.xlarge")}}),
    ],
)
def test_what_a_list_does_not_tell_is_a_fault(
    listed: Path, told: str, text: str | None, options: dict[str, object]
) -> None:
    asked = {"region": "us-east-1"} if "region: " not in told else {}
    refused(listed, told, text, **(asked | options))


# --- hardware.yaml ---------------------------------------------------------------------------------------------------

T4 = Hardware("t4", 0.526, 16.0, source='"list", 2026: ours')
YAML = """\
# prices of May
t4:
  usd_per_hour: 0.5  # negotiated
  limit: 8

# machines
cpu: {usd_per_hour: 0.1, source: ours}
"""


def test_a_file_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "profiles" / "hardware.yaml"
    odd = Hardware("on", 1e-05, source="x")
    assert merge_hardware(path, [T4, odd]).added == ("t4", "on")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
        "t4": {"usd_per_hour": 0.526, "memory_gib": 16.0, "source": '"list", 2026: ours'},
        "on": {"usd_per_hour": 1e-05, "source": "x"},
    }
    assert merge_hardware(path, [T4]).unchanged == ("t4",)


def test_what_is_there_stays_with_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(YAML, encoding="utf-8")
    merge = merge_hardware(path, [Hardware("a100", 4.0, 40.0, source="list")])
    assert merge.added == ("a100",)
    assert path.read_text(encoding="utf-8").startswith(YAML)


def test_another_price_is_a_fault_unless_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(YAML, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"t4: stands there with 0\.5 \$/h, not 0\.526: --replace takes the new price"
    ):
        merge_hardware(path, [T4])
    assert path.read_text(encoding="utf-8") == YAML
    assert merge_hardware(path, [T4], replace_existing=True).replaced == ("t4",)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# prices of May\nt4:\n  usd_per_hour: 0.526\n")
    assert "\n\n# machines\ncpu: {usd_per_hour: 0.1, source: ours}\n" in text
    entry = yaml.safe_load(text)["t4"]
    assert entry == {"usd_per_hour": 0.526, "source": '"list", 2026: ours', "limit": 8}


@pytest.mark.parametrize("indent", ["", " ", "    "])
def test_an_entry_that_is_replaced_keeps_its_indentation_and_has_the_new_memory(
    tmp_path: Path, indent: str
) -> None:
    """The entry of a machine with other devices kept the memory of the old ones."""
    path = tmp_path / "hardware.yaml"
    block = ["t4:", "  usd_per_hour: 0.526", "  memory_gib: 8  # of a slice", "  limit: 8"]
    path.write_text("\n".join(line.replace("  ", f" {indent}", 1) for line in block) + "\n", encoding="utf-8")
    assert merge_hardware(path, [T4]).unchanged == ("t4",)
    assert merge_hardware(path, [T4], replace_existing=True).replaced == ("t4",)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "t4:",
        f" {indent}usd_per_hour: 0.526",
        f" {indent}memory_gib: 16.0",
        f' {indent}source: "\\"list\\", 2026: ours"',
        f" {indent}limit: 8",
    ]
    assert merge_hardware(path, [T4], replace_existing=True).unchanged == ("t4",)


@pytest.mark.parametrize(
    ("block", "kept"),
    [
        (
            ["  usd_per_hour: 0.5", "  limit: 3", "  source: >", "    long", "", "    # text", "", "  # end"],
            ["  limit: 3", "", "  # end"],
        ),
        (["  source: |-", "   a", "   source: b", "  limit: 3", "  usd_per_hour: 0.5"], ["  limit: 3"]),
        (['  source: "a', '    b: c"', "    # why", "  usd_per_hour:", "    0.5"], ["    # why"]),
        (["  # before", "  source: a", "     b", "", "     c", "  usd_per_hour: 0.5"], ["  # before"]),
    ],
)
def test_values_of_several_lines_are_replaced_whole(
    tmp_path: Path, block: list[str], kept: list[str]
) -> None:
    """Only their first line was, so that the rest went on with the key before, and the file could not be read."""
    path = tmp_path / "hardware.yaml"
    path.write_text("\n".join(["t4:", *block, "cpu:", "  usd_per_hour: 1", ""]), encoding="utf-8")
    assert merge_hardware(path, [T4], replace_existing=True).replaced == ("t4",)
    written = ["t4:", "  usd_per_hour: 0.526", f'  source: "{T4.source}"'.replace('"list"', '\\"list\\"')]
    expected = [*written, *kept, "cpu:", "  usd_per_hour: 1"]
    assert path.read_text(encoding="utf-8").splitlines() == expected
    assert [entry.usd_per_hour for entry in read_hardware(path)] == [0.526, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        "t4:\n  usd_per_hour: 0.5\n  source: 'a\n\n  b'\n",
        "t4:\n  limit: 3\n  'usd_per_hour': 0.5\n",
        "t4:\n  usd_per_hour: 0.5\n  limit: 'a\n  source: b\n  c'\n",
        "{t4: {usd_per_hour: 0.5}}\n",
        "t4: {usd_per_hour: 0.5}\n",
        "- t4\n",
        "t4: 1\nt4: 2\n",
        "a: b: c\n",
    ],
)
def test_files_that_cannot_be_mended_are_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        merge_hardware(path, [T4, Hardware("b", 1.0)], replace_existing=True)
    assert path.read_text(encoding="utf-8") == text


def test_prices_of_a_list_with_any_name_have_a_source(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text(LIST, encoding="utf-8")
    (entry,) = read_prices(path, region="eu-west-1").hardware
    assert entry.source.startswith("caf?.csv:3 sha256:")
