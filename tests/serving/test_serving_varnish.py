"""docs/serving/varnish.vcl, run by Varnish before nginx: what is kept, and for how long."""

from __future__ import annotations

import gzip
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import serving_programs
from serving_origin import FailingOrigin
from serving_page import HEADER_ROWS
from serving_programs import LocalServer, ServedFolder, run_varnish_before, wait_until
from serving_results import ESCAPED_NAME, expected_responses, noise_image

import fasttile
from support.sampling import sampled

TILE = "/plain_files/10/1_1.jpg"
TILE_SUFFIXES = (".jpg", ".png", ".webp")
FILE_SUFFIXES = (".szi", ".zip", ".pmtiles", ".mbtiles", ".tif")

DESCRIPTOR_SECONDS = 1.0
"""Seconds for which Varnish does not ask again for a descriptor."""

OriginAndVarnish = tuple[FailingOrigin, LocalServer]


def test_every_file_comes_through_as_it_is(site: Path, varnish: LocalServer) -> None:
    for address, data in expected_responses(site).items():
        for _ in range(2):
            answer = varnish.request(address)
            assert (answer.status, answer.body) == (200, data), address
            kind = HEADER_ROWS[Path(address).suffix]
            assert answer["Content-Type"] == kind.media_type
            if "/@7/" not in address:
                assert answer["Cache-Control"] == kind.cache_control
            assert answer["Access-Control-Allow-Origin"] == "*"
            for private in ("Age", "Via", "X-Varnish", "x-url"):
                assert answer[private] is None
        seen = "PASS" if address.endswith(FILE_SUFFIXES) else "HIT"
        assert answer["X-Cache"] == seen or not address.endswith((*TILE_SUFFIXES, *FILE_SUFFIXES))


def test_a_tile_is_asked_for_once(nginx: LocalServer, varnish: LocalServer) -> None:
    tile = "/plain_files/10/2_2.jpg"
    before = nginx.access_log.read_text().count(f"GET {tile} 200")
    varnish.purge("/plain.dzi")
    spelt = (tile, f"{tile}?v=2", f"{tile}?acl&list-type=2", tile)
    seen = [
        varnish.request(one, headers={"Host": f"host{n}"})["X-Cache"] for n, one in enumerate(spelt)
    ]
    assert seen == ["MISS", "HIT", "HIT", "HIT"]
    wait_until(
        lambda: nginx.access_log.read_text().count(f"GET {tile} 200") == before + 1,
        "it was asked for once",
    )


def test_all_spellings_of_an_address_are_one(varnish: LocalServer) -> None:
    varnish.purge("/box/image")
    rest = "full/450,350/0/default.jpg"
    asked = [f"/box{slash}image/{rest}" for slash in ("%2F", "%2f", "/")]
    asked.append(f"/box/image/{rest.replace(',', '%2C')}")
    assert [varnish.request(one)["X-Cache"] for one in asked] == ["MISS", "HIT", "HIT", "HIT"]


@pytest.mark.parametrize("address", [TILE, "/plain.html", "/box/image/info.json"])
def test_head_and_questions(varnish: LocalServer, address: str) -> None:
    got = varnish.request(address)
    head = varnish.request(address, "HEAD")
    assert (head.status, head.body, head["ETag"]) == (200, b"", got["ETag"])
    tag = got["ETag"]
    assert tag is not None
    again = varnish.request(address, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert again["Access-Control-Allow-Origin"] == "*"
    assert again["Cache-Control"] == got["Cache-Control"]


@pytest.mark.parametrize("ending", FILE_SUFFIXES)
def test_ranges_go_through(site: Path, varnish: LocalServer, ending: str) -> None:
    data = (site / f"one{ending}").read_bytes()
    ranged = {"Range": "bytes=100-4099", "Accept-Encoding": "gzip"}
    answer = varnish.request(f"/one{ending}", headers=ranged)
    assert (answer.status, answer.body) == (206, data[100:4100])
    assert answer["Content-Range"] == f"bytes 100-4099/{len(data)}"
    assert answer["X-Cache"] == "PASS"
    tag = answer["ETag"]
    assert tag is not None
    assert not tag.startswith("W/")
    assert varnish.request(f"/one{ending}", headers={"If-None-Match": tag}).status == 304
    beyond = varnish.request(f"/one{ending}", headers={"Range": f"bytes={len(data)}-"})
    assert beyond.status == 416
    assert beyond["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, deflate, br", "identity"])
def test_only_descriptors_are_compressed(site: Path, varnish: LocalServer, encoding: str) -> None:
    for address in ("/plain.html", "/box/image/info.json", TILE, "/one.pmtiles"):
        answer = varnish.request(address, headers={"Accept-Encoding": encoding})
        kind = HEADER_ROWS[Path(address).suffix]
        compressed = answer["Content-Encoding"] == "gzip"
        assert compressed == (kind.is_compressed and encoding != "identity")
        data = gzip.decompress(answer.body) if compressed else answer.body
        assert data == (site / address[1:]).read_bytes()


def test_browsers_may_ask_from_other_sites(varnish: LocalServer) -> None:
    preflight = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    answer = varnish.request("/one.pmtiles", "OPTIONS", preflight)
    assert (answer.status, answer.body) == (204, b"")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "Range" in (answer["Access-Control-Allow-Headers"] or "").split(", ")
    assert "ETag" in (varnish.request("/one.pmtiles")["Access-Control-Expose-Headers"] or "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "PURGE"])
def test_nothing_but_reading_is_answered(varnish: LocalServer, method: str) -> None:
    assert varnish.request(TILE, method, {"Content-Length": "0"}).status == 405


@pytest.mark.parametrize(
    "address",
    ["/.map.dzi.fasttile/claim", "/maps/%2eb/c.jpg", "/maps/%2E%2e/x.dzi", "/../x.dzi", "/.git/a"],
)
def test_what_is_hidden_is_not_asked_for(
    nginx: LocalServer, varnish: LocalServer, address: str
) -> None:
    answer = varnish.request(address)
    assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")
    assert address not in nginx.access_log.read_text()


def test_a_missing_tile_is_kept_shortly(varnish: LocalServer) -> None:
    answers = [varnish.request("/sparse/2/3/3.jpg") for _ in range(2)]
    for answer in answers:
        assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")
        assert answer["Access-Control-Allow-Origin"] == "*"
    assert [answer["X-Cache"] for answer in answers] == ["MISS", "HIT"]


def test_an_image_leads_to_its_description(varnish: LocalServer) -> None:
    answer = varnish.request("/box/image")
    assert (answer.status, answer["Location"]) == (303, "/box/image/info.json")


RESULT_VERSIONS = [
    ("map.dzi", {"viewer": "leaflet"}, "/map.dzi"),
    ("map.dzi", {"layout": "dzi:json"}, "/map"),
    ("map", {"layout": "zoomify"}, "/map/ImageProperties.xml"),
    ("map", {"layout": "iiif3:id=https://example.org/map"}, "/map/info.json"),
    ("map", {"layout": "xyz"}, "/map/"),
    (f"{ESCAPED_NAME}.dzi", {}, f"/{quote(ESCAPED_NAME)}.dzi"),
    ("a.b+c.dzi", {}, "/a.b+c.dzi"),
]


@pytest.mark.parametrize(
    ("name", "options", "opened"),
    sampled(RESULT_VERSIONS, RESULT_VERSIONS[:2]),
)
def test_a_new_version_is_purged(
    served_folder: ServedFolder, name: str, options: dict[str, str], opened: str
) -> None:
    def served(wanted: dict[str, bytes]) -> bool:
        return {
            address: served_folder.varnish.request(address).body for address in wanted
        } == wanted

    fasttile.cut(noise_image(600, 500), served_folder.folder / name, **options)
    old = expected_responses(served_folder.folder, served_folder.url_path)
    assert served(old)
    # A descriptor of another length: within one second, nginx distinguishes files by it alone.
    fasttile.cut(noise_image(1100, 500, 1), served_folder.folder / name, overwrite=True, **options)
    new = expected_responses(served_folder.folder, served_folder.url_path)
    changed = {address for address in old.keys() & new if old[address] != new[address]}
    tiles = {address for address in changed if address.endswith(TILE_SUFFIXES)}
    assert tiles
    assert served({address: old[address] for address in tiles})
    descriptors = {address: new[address] for address in changed - tiles}
    wait_until(lambda: served(descriptors), "descriptors come by themselves")
    assert served_folder.varnish.purge(served_folder.url_path + opened).status == 200
    assert served(new)


def test_a_purge_leaves_others_alone(served_folder: ServedFolder) -> None:
    names = ["map", "map2", "map.v2", "mapXv2", "my map", "deep/map"]
    for name in names:
        fasttile.cut(noise_image(300, 200), served_folder.folder / f"{name}.dzi")
    tiles = {name: f"{served_folder.url_path}/{quote(name)}_files/8/0_0.jpg" for name in names}
    for name in names:
        for tile in tiles.values():
            served_folder.varnish.request(tile)
        served_folder.varnish.purge(f"{served_folder.url_path}/{quote(name)}.dzi")
        seen = {one: served_folder.varnish.request(tile)["X-Cache"] for one, tile in tiles.items()}
        assert seen == {one: "MISS" if one == name else "HIT" for one in names}
    assert served_folder.varnish.purge("/").status == 400


def test_descriptors_are_asked_for_by_their_tag(origin_and_varnish: OriginAndVarnish) -> None:
    behind, front = origin_and_varnish
    assert front.request("/map.dzi").body == b"first"
    time.sleep(1.5 * DESCRIPTOR_SECONDS)
    assert front.request("/map.dzi").body == b"first"
    assert behind.requests == [("/map.dzi", None), ("/map.dzi", '"first"')]
    behind.text = b"second"
    time.sleep(1.5 * DESCRIPTOR_SECONDS)
    assert front.request("/map.dzi").body == b"second"  # at once, never the old one once more


@pytest.mark.long
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_is_kept_outlives_an_origin_that_fails(
    origin_and_varnish: OriginAndVarnish, status: int
) -> None:
    behind, front = origin_and_varnish
    front.request("/map.dzi")
    front.request("/map_files/0/0_0.jpg")
    behind.status = status
    time.sleep(1.5 * DESCRIPTOR_SECONDS)
    for address in ("/map.dzi", "/map_files/0/0_0.jpg"):
        for _ in range(2):
            kept = front.request(address)
            assert (kept.status, kept.body) == (200, b"first")
    for address in ("/other.dzi", "/map_files/1/0_0.jpg", "/map.pmtiles"):
        unknown = front.request(address)
        assert (unknown.status, unknown["Cache-Control"]) == (503, "no-store")
        assert unknown["Access-Control-Allow-Origin"] == "*"
    behind.status, behind.text = 200, b"second"
    wait_until(lambda: front.request("/map.dzi").body == b"second", "the descriptor comes again")
    assert front.request("/other.dzi").body == b"second"


def test_a_refusal_of_the_origin_does_not_stay(origin_and_varnish: OriginAndVarnish) -> None:
    behind, front = origin_and_varnish
    behind.status = 429
    assert front.request("/map_files/0/0_0.jpg").status == 429
    behind.status = 200
    time.sleep(1.5 * DESCRIPTOR_SECONDS)
    assert front.request("/map_files/0/0_0.jpg").status == 200


def test_all_visitors_are_one(origin_and_varnish: OriginAndVarnish) -> None:
    behind, front = origin_and_varnish
    for address in ("/map.dzi", "/map_files/0/0_0.jpg"):
        for user in ("a", "b"):
            said = {"Cookie": user, "Authorization": user, "Origin": f"https://{user}.example"}
            answer = front.request(address, headers=said)
            assert answer["Set-Cookie"] is None
            assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["X-Cache"] == "HIT"
    assert not {"cookie", "authorization"} & behind.header_names


@pytest.mark.long
def test_what_is_kept_outlives_nginx(served_root: Path) -> None:
    fasttile.cut(noise_image(600, 500), served_root / "map.dzi")
    with ExitStack() as front:
        with serving_programs.run_nginx(served_root) as nginx:
            varnish = front.enter_context(run_varnish_before(nginx))
            files = expected_responses(served_root)
            for address in files:
                varnish.request(address)
        time.sleep(1.5 * DESCRIPTOR_SECONDS)
        for address, data in files.items():
            kept = varnish.request(address)
            assert (kept.status, kept.body) == (200, data)
        assert varnish.request("/other.dzi").status == 503
