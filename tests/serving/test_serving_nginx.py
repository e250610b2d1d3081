"""docs/serving/nginx.conf, run by nginx: what is served, how, and what is not."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import serving_programs
from serving_page import HEADER_ROWS
from serving_programs import LocalServer, find_program
from serving_results import ESCAPED_NAME, expected_responses, hidden_files, noise_image

import fasttile
from fasttile import layouts

TILE_PATH = "/plain_files/10/1_1.jpg"
INFO_PATH = "/box/image/info.json"


def test_the_page_describes_all_kinds(site: Path) -> None:
    assert {path.suffix for path in site.rglob("*") if path.is_file()} == set(HEADER_ROWS)


def test_every_file_is_served_as_the_page_says(site: Path, nginx: LocalServer) -> None:
    for address, data in expected_responses(site).items():
        answer = nginx.request(address)
        assert (answer.status, answer.body) == (200, data), address
        kind = HEADER_ROWS[Path(address).suffix]
        assert answer["Content-Type"] == kind.media_type
        cache = "public, max-age=31536000, immutable" if "/@7/" in address else kind.cache_control
        assert answer["Cache-Control"] == cache
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Encoding"] is None


def test_only_descriptors_are_compressed(served_root: Path) -> None:
    files = {f"/{size}{ending}": b"<a/>" * size for size in (10, 1000) for ending in HEADER_ROWS}
    for address, data in files.items():
        (served_root / address[1:]).write_bytes(data)
    with serving_programs.run_nginx(served_root) as nginx:
        for address, data in files.items():
            answer = nginx.request(address, headers={"Accept-Encoding": "gzip, br", "Via": "1.1 a"})
            compressed = answer["Content-Encoding"] == "gzip"
            assert compressed == (
                HEADER_ROWS[Path(address).suffix].is_compressed and len(data) > 1000
            )
            assert (gzip.decompress(answer.body) if compressed else answer.body) == data
            if compressed:
                assert answer["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "address", [TILE_PATH, "/plain.dzi", INFO_PATH, "/one.pmtiles", "/plain.html"]
)
def test_head_is_get_without_a_body(nginx: LocalServer, address: str) -> None:
    got, head = nginx.request(address), nginx.request(address, "HEAD")
    assert (head.status, head.body) == (200, b"")
    names = ("Content-Type", "Content-Length", "ETag", "Cache-Control", "Accept-Ranges")
    assert [head[name] for name in names] == [got[name] for name in names]
    assert head["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize(
    "address", [TILE_PATH, "/plain.dzi", INFO_PATH, "/one.pmtiles", "/@7/fixed.dzi"]
)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_what_one_has_is_not_sent_again(nginx: LocalServer, address: str, encoding: str) -> None:
    has = nginx.request(address, headers={"Accept-Encoding": encoding})
    for name, said in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
        value = has[said]
        assert value is not None
        again = nginx.request(address, headers={name: value, "Accept-Encoding": encoding})
        assert (again.status, again.body) == (304, b"")
        for header in ("ETag", "Cache-Control", "Access-Control-Allow-Origin"):
            assert again[header] == has[header]
    assert nginx.request(address, headers={"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize("ending", ["pmtiles", "szi", "zip", "mbtiles", "tif"])
def test_one_file_is_read_by_ranges(site: Path, nginx: LocalServer, ending: str) -> None:
    data = (site / f"one.{ending}").read_bytes()
    for first, last in ((0, 126), (1000, 4999), (len(data) - 22, len(data) - 1)):
        ranged = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "gzip"}
        answer = nginx.request(f"/one.{ending}", headers=ranged)
        assert (answer.status, answer.body) == (206, data[first : last + 1])
        assert answer["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
        assert answer["Cache-Control"] == "no-cache"
        tag = answer["ETag"]
        assert tag is not None
        assert not tag.startswith("W/")  # pmtiles.js trusts no weak one
    beyond = nginx.request(f"/one.{ending}", headers={"Range": f"bytes={len(data)}-"})
    assert beyond.status == 416
    assert beyond["Content-Range"] == f"bytes */{len(data)}"
    assert beyond["Access-Control-Allow-Origin"] == "*"  # once: browsers take no two
    assert beyond["Cache-Control"] == "no-cache"


def test_a_piece_of_another_version_is_not_sent(site: Path, nginx: LocalServer) -> None:
    asked = {"Range": "bytes=0-9", "If-Range": '"other"'}
    complete = nginx.request("/one.pmtiles", headers=asked)
    assert (complete.status, len(complete.body)) == (200, (site / "one.pmtiles").stat().st_size)


def test_browsers_may_ask_from_other_sites(nginx: LocalServer) -> None:
    preflight = {
        "Origin": "https://viewer.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range, if-none-match",
    }
    answer = nginx.request("/one.pmtiles", "OPTIONS", preflight)
    assert (answer.status, answer.body) == (204, b"")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "GET" in (answer["Access-Control-Allow-Methods"] or "").split(", ")
    allowed = (answer["Access-Control-Allow-Headers"] or "").lower().split(", ")
    assert {"range", "if-none-match"} <= set(allowed)
    assert int(answer["Access-Control-Max-Age"] or 0) > 0
    exposed = (nginx.request("/one.pmtiles")["Access-Control-Expose-Headers"] or "").split(", ")
    assert {"ETag", "Content-Range"} <= set(exposed)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "PURGE"])
def test_nothing_but_reading_is_answered(nginx: LocalServer, method: str) -> None:
    assert nginx.request(TILE_PATH, method, {"Content-Length": "0"}).status == 405


@pytest.mark.parametrize(
    "address",
    ["/plain_files/10/99_0.jpg", "/sparse/2/3/3.jpg", "/other.dzi", "/xyz/0/0/0.webp/more"],
)
def test_what_is_missing_may_come_soon(nginx: LocalServer, address: str) -> None:
    answer = nginx.request(address)
    assert answer.status == 404
    assert answer["Cache-Control"] == "public, max-age=60"
    assert answer["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("address", ["/", "/maps", "/maps/", "/plain_files/", "/plain_files/10"])
def test_no_folder_is_listed(nginx: LocalServer, address: str) -> None:
    assert nginx.request(address).status == 404


@pytest.mark.parametrize("base", ["/box/image", "/box/image/", "/box%2Fimage", "//box/image?a=b"])
def test_the_address_of_an_image_leads_to_its_description(nginx: LocalServer, base: str) -> None:
    answer = nginx.request(base)
    assert answer.status == 303
    place = answer["Location"]
    assert place in (INFO_PATH, "/box%2Fimage/info.json")
    assert json.loads(nginx.request(place).body)["type"] == "ImageService3"


def test_a_slash_in_an_identifier_may_be_quoted(site: Path, nginx: LocalServer) -> None:
    identifier = json.loads(nginx.request(INFO_PATH).body)["id"].removeprefix("https://example.org")
    assert identifier == "/box%2Fimage"
    region = "/full/450,350/0/default.jpg"
    assert nginx.request(identifier + region).body == (site / f"box/image{region}").read_bytes()


def test_no_header_is_smuggled_in(served_root: Path) -> None:
    folder = served_root / "a\r\nSet-Cookie: b=c"
    folder.mkdir()
    (folder / "info.json").write_text("{}")
    with serving_programs.run_nginx(served_root) as nginx:
        answer = nginx.request("/a%0d%0aSet-Cookie:%20b=c")
    assert (answer.status, answer["Set-Cookie"]) == (303, None)
    assert answer["Location"] == "/a%0d%0aSet-Cookie:%20b=c/info.json"


def test_names_may_be_any(site: Path, nginx: LocalServer) -> None:
    found = nginx.request(f"/maps/{quote(ESCAPED_NAME)}.dzi")
    assert found.body == (site / "maps" / f"{ESCAPED_NAME}.dzi").read_bytes()


@pytest.mark.parametrize(
    "address",
    [
        "/../../../../etc/passwd",
        "/plain_files/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/maps/..%5c..%5cetc/passwd",
        "/plain_files/....//....//etc/passwd",
        "/%00/etc/passwd",
    ],
)
def test_nothing_outside_is_reached(nginx: LocalServer, address: str) -> None:
    answer = nginx.request(address)
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body


def test_links_are_not_followed(served_root: Path) -> None:
    fasttile.cut(noise_image(300, 200), served_root / "a.dzi")
    (served_root / "b.dzi").symlink_to("a.dzi")
    (served_root / "b_files").symlink_to("a_files")
    (served_root / "passwd.json").symlink_to("/etc/passwd")
    with serving_programs.run_nginx(served_root) as nginx:
        assert nginx.request("/a_files/8/0_0.jpg").status == 200
        for address in ("/b.dzi", "/b_files/8/0_0.jpg", "/passwd.json"):
            answer = nginx.request(address)
            assert (answer.status, answer["Cache-Control"]) in ((403, "no-store"), _MISSING)


_MISSING = (404, "public, max-age=60")


def test_records_are_not_served(site: Path, nginx: LocalServer) -> None:
    records = hidden_files(site)
    assert {Path(address).name for address in records} == {layouts.RECORD_NAME}
    assert {nginx.request(address).status for address in records} == {404}


def test_a_result_in_the_making_is_not_served(served_root: Path) -> None:
    hidden: list[str] = []

    with serving_programs.run_nginx(served_root) as nginx:

        def watch(progress: fasttile.CutProgress) -> bool:
            work = hidden_files(served_root)
            for address in work:
                for spelt in (address, address.replace("/.", "/%2e"), address.replace("/.", "//.")):
                    assert nginx.request(spelt).status == 404, spelt
            hidden.extend(work)
            return True

        fasttile.cut(noise_image(900, 700), served_root / "made.dzi", progress=watch)
        assert any(".made.dzi.fasttile/new/made_files/" in address for address in hidden)
        assert nginx.request("/made.dzi").status == 200


@pytest.mark.parametrize("name", ["map.dzi", "map.pmtiles"])
def test_a_new_version_is_served_at_once(served_root: Path, name: str) -> None:
    with serving_programs.run_nginx(served_root) as nginx:
        for seed in range(3):
            fasttile.cut(noise_image(900, 700, seed), served_root / name, overwrite=True)
            for _ in range(2):
                for address, data in expected_responses(served_root).items():
                    assert nginx.request(address).body == data, address


def test_http_2(site: Path, served_root: Path) -> None:
    """By the lines of the configuration that are commented out, for want of a certificate."""
    openssl, curl = find_program("openssl"), find_program("curl")
    if openssl is None or curl is None:
        pytest.skip("openssl or curl is missing")
    both = served_root / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tiles"
    make = [openssl, *words.split(), "-keyout", both, "-out", served_root / "certificate.pem"]
    subprocess.run(make, check=True, capture_output=True)
    both.write_text(both.read_text() + (served_root / "certificate.pem").read_text())
    with serving_programs.run_nginx(site, both) as nginx:
        ask = [curl, "-sk", "--http2", "-o", served_root / "tile", "-w", "%{http_version}"]
        said = subprocess.run(
            [*ask, f"https://127.0.0.1:{nginx.tls_port}{TILE_PATH}"], capture_output=True, text=True
        )
    assert said.stdout == "2"
    assert (served_root / "tile").read_bytes() == (site / TILE_PATH[1:]).read_bytes()
