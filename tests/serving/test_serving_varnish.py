"""docs/serving/varnish.vcl, run by Varnish before nginx: what is kept, and for how long."""

from __future__ import annotations

import gzip
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import serving_programs
from serving_origin import Origin
from serving_page import KINDS
from serving_programs import Server, Stage, until, varnish_before
from serving_results import ODD_NAME, addresses, picture

import fasttile
from samples import sampled

TILE = "/plain_files/10/1_1.jpg"
TILES = (".jpg", ".png", ".webp")
FILES = (".szi", ".zip", ".pmtiles", ".mbtiles", ".tif")

DESCRIPTOR_LASTS = 1.0
"""Seconds for which Varnish does not ask again for a descriptor."""

Pair = tuple[Origin, Server]


def test_every_file_comes_through_as_it_is(site: Path, varnish: Server) -> None:
    for address, data in addresses(site).items():
        for _ in range(2):
            answer = varnish.ask(address)
            assert (answer.status, answer.body) == (200, data), address
            kind = KINDS[Path(address).suffix]
            assert answer["Content-Type"] == kind.type
            if "/@7/" not in address:
                assert answer["Cache-Control"] == kind.cache
            assert answer["Access-Control-Allow-Origin"] == "*"
            for private in ("Age", "Via", "X-Varnish", "x-url"):
                assert answer[private] is None
        seen = "PASS" if address.endswith(FILES) else "HIT"
        assert answer["X-Cache"] == seen or not address.endswith((*TILES, *FILES))


def test_a_tile_is_asked_for_once(nginx: Server, varnish: Server) -> None:
    tile = "/plain_files/10/2_2.jpg"
    before = nginx.log.read_text().count(f"GET {tile} 200")
    varnish.purge("/plain.dzi")
    spelt = (tile, f"{tile}?v=2", f"{tile}?acl&list-type=2", tile)
    seen = [
        varnish.ask(one, headers={"Host": f"host{n}"})["X-Cache"] for n, one in enumerate(spelt)
    ]
    assert seen == ["MISS", "HIT", "HIT", "HIT"]
    until(
        lambda: nginx.log.read_text().count(f"GET {tile} 200") == before + 1,
        "it was asked for once",
    )


def test_all_spellings_of_an_address_are_one(varnish: Server) -> None:
    varnish.purge("/box/image")
    rest = "full/450,350/0/default.jpg"
    asked = [f"/box{slash}image/{rest}" for slash in ("%2F", "%2f", "/")]
    asked.append(f"/box/image/{rest.replace(',', '%2C')}")
    assert [varnish.ask(one)["X-Cache"] for one in asked] == ["MISS", "HIT", "HIT", "HIT"]


@pytest.mark.parametrize("address", [TILE, "/plain.html", "/box/image/info.json"])
def test_head_and_questions(varnish: Server, address: str) -> None:
    got = varnish.ask(address)
    head = varnish.ask(address, "HEAD")
    assert (head.status, head.body, head["ETag"]) == (200, b"", got["ETag"])
    tag = got["ETag"]
    assert tag is not None
    again = varnish.ask(address, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert again["Access-Control-Allow-Origin"] == "*"
    assert again["Cache-Control"] == got["Cache-Control"]


@pytest.mark.parametrize("ending", FILES)
def test_ranges_go_through(site: Path, varnish: Server, ending: str) -> None:
    data = (site / f"one{ending}").read_bytes()
    ranged = {"Range": "bytes=100-4099", "Accept-Encoding": "gzip"}
    answer = varnish.ask(f"/one{ending}", headers=ranged)
    assert (answer.status, answer.body) == (206, data[100:4100])
    assert answer["Content-Range"] == f"bytes 100-4099/{len(data)}"
    assert answer["X-Cache"] == "PASS"
    tag = answer["ETag"]
    assert tag is not None
    assert not tag.startswith("W/")
    assert varnish.ask(f"/one{ending}", headers={"If-None-Match": tag}).status == 304
    beyond = varnish.ask(f"/one{ending}", headers={"Range": f"bytes={len(data)}-"})
    assert beyond.status == 416
    assert beyond["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, deflate, br", "identity"])
def test_only_descriptors_are_compressed(site: Path, varnish: Server, encoding: str) -> None:
    for address in ("/plain.html", "/box/image/info.json", TILE, "/one.pmtiles"):
        answer = varnish.ask(address, headers={"Accept-Encoding": encoding})
        kind = KINDS[Path(address).suffix]
        compressed = answer["Content-Encoding"] == "gzip"
        assert compressed == (kind.compressed and encoding != "identity")
        data = gzip.decompress(answer.body) if compressed else answer.body
        assert data == (site / address[1:]).read_bytes()


def test_browsers_may_ask_from_other_sites(varnish: Server) -> None:
    wishes = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    answer = varnish.ask("/one.pmtiles", "OPTIONS", wishes)
    assert (answer.status, answer.body) == (204, b"")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "Range" in (answer["Access-Control-Allow-Headers"] or "").split(", ")
    assert "ETag" in (varnish.ask("/one.pmtiles")["Access-Control-Expose-Headers"] or "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "PURGE"])
def test_nothing_but_reading_is_answered(varnish: Server, method: str) -> None:
    assert varnish.ask(TILE, method, {"Content-Length": "0"}).status == 405


@pytest.mark.parametrize(
    "address",
    ["/.map.dzi.fasttile/claim", "/maps/%2eb/c.jpg", "/maps/%2E%2e/x.dzi", "/../x.dzi", "/.git/a"],
)
def test_what_is_hidden_is_not_asked_for(nginx: Server, varnish: Server, address: str) -> None:
    answer = varnish.ask(address)
    assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")
    assert address not in nginx.log.read_text()


def test_a_missing_tile_is_kept_shortly(varnish: Server) -> None:
    answers = [varnish.ask("/sparse/2/3/3.jpg") for _ in range(2)]
    for answer in answers:
        assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")
        assert answer["Access-Control-Allow-Origin"] == "*"
    assert [answer["X-Cache"] for answer in answers] == ["MISS", "HIT"]


def test_an_image_leads_to_its_description(varnish: Server) -> None:
    answer = varnish.ask("/box/image")
    assert (answer.status, answer["Location"]) == (303, "/box/image/info.json")


VERSIONS = [
    ("map.dzi", {"viewer": "leaflet"}, "/map.dzi"),
    ("map.dzi", {"layout": "dzi:json"}, "/map"),
    ("map", {"layout": "zoomify"}, "/map/ImageProperties.xml"),
    ("map", {"layout": "iiif3:id=https://example.org/map"}, "/map/info.json"),
    ("map", {"layout": "xyz"}, "/map/"),
    (f"{ODD_NAME}.dzi", {}, f"/{quote(ODD_NAME)}.dzi"),
    ("a.b+c.dzi", {}, "/a.b+c.dzi"),
]


@pytest.mark.parametrize(
    ("name", "wishes", "opened"),
    sampled(VERSIONS, VERSIONS[:2]),
)
def test_a_new_version_is_purged(
    stage: Stage, name: str, wishes: dict[str, str], opened: str
) -> None:
    def served(wanted: dict[str, bytes]) -> bool:
        return {address: stage.varnish.ask(address).body for address in wanted} == wanted

    fasttile.cut(picture(600, 500), stage.root / name, **wishes)
    old = addresses(stage.root, stage.at)
    assert served(old)
    # A descriptor of another length: in one second, nginx tells files apart by that alone.
    fasttile.cut(picture(1100, 500, 1), stage.root / name, overwrite=True, **wishes)
    new = addresses(stage.root, stage.at)
    changed = {address for address in old.keys() & new if old[address] != new[address]}
    tiles = {address for address in changed if address.endswith(TILES)}
    assert tiles
    assert served({address: old[address] for address in tiles})
    descriptors = {address: new[address] for address in changed - tiles}
    until(lambda: served(descriptors), "descriptors come by themselves")
    assert stage.varnish.purge(stage.at + opened).status == 200
    assert served(new)


def test_a_purge_leaves_others_alone(stage: Stage) -> None:
    names = ["map", "map2", "map.v2", "mapXv2", "my map", "deep/map"]
    for name in names:
        fasttile.cut(picture(300, 200), stage.root / f"{name}.dzi")
    tiles = {name: f"{stage.at}/{quote(name)}_files/8/0_0.jpg" for name in names}
    for name in names:
        for tile in tiles.values():
            stage.varnish.ask(tile)
        stage.varnish.purge(f"{stage.at}/{quote(name)}.dzi")
        seen = {one: stage.varnish.ask(tile)["X-Cache"] for one, tile in tiles.items()}
        assert seen == {one: "MISS" if one == name else "HIT" for one in names}
    assert stage.varnish.purge("/").status == 400


def test_descriptors_are_asked_for_by_their_tag(pair: Pair) -> None:
    behind, front = pair
    assert front.ask("/map.dzi").body == b"first"
    time.sleep(1.5 * DESCRIPTOR_LASTS)
    assert front.ask("/map.dzi").body == b"first"
    assert behind.asked == [("/map.dzi", None), ("/map.dzi", '"first"')]
    behind.text = b"second"
    time.sleep(1.5 * DESCRIPTOR_LASTS)
    assert front.ask("/map.dzi").body == b"second"  # at once, never the old one once more


@pytest.mark.long
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_is_kept_outlives_an_origin_that_fails(pair: Pair, status: int) -> None:
    behind, front = pair
    front.ask("/map.dzi")
    front.ask("/map_files/0/0_0.jpg")
    behind.status = status
    time.sleep(1.5 * DESCRIPTOR_LASTS)
    for address in ("/map.dzi", "/map_files/0/0_0.jpg"):
        for _ in range(2):
            kept = front.ask(address)
            assert (kept.status, kept.body) == (200, b"first")
    for address in ("/other.dzi", "/map_files/1/0_0.jpg", "/map.pmtiles"):
        unknown = front.ask(address)
        assert (unknown.status, unknown["Cache-Control"]) == (503, "no-store")
        assert unknown["Access-Control-Allow-Origin"] == "*"
    behind.status, behind.text = 200, b"second"
    until(lambda: front.ask("/map.dzi").body == b"second", "the descriptor comes again")
    assert front.ask("/other.dzi").body == b"second"


def test_a_refusal_of_the_origin_does_not_stay(pair: Pair) -> None:
    behind, front = pair
    behind.status = 429
    assert front.ask("/map_files/0/0_0.jpg").status == 429
    behind.status = 200
    time.sleep(1.5 * DESCRIPTOR_LASTS)
    assert front.ask("/map_files/0/0_0.jpg").status == 200


def test_all_visitors_are_one(pair: Pair) -> None:
    behind, front = pair
    for address in ("/map.dzi", "/map_files/0/0_0.jpg"):
        for user in ("a", "b"):
            said = {"Cookie": user, "Authorization": user, "Origin": f"https://{user}.example"}
            answer = front.ask(address, headers=said)
            assert answer["Set-Cookie"] is None
            assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["X-Cache"] == "HIT"
    assert not {"cookie", "authorization"} & behind.told


@pytest.mark.long
def test_what_is_kept_outlives_nginx(root: Path) -> None:
    fasttile.cut(picture(600, 500), root / "map.dzi")
    with ExitStack() as front:
        with serving_programs.nginx(root) as nginx:
            varnish = front.enter_context(varnish_before(nginx))
            files = addresses(root)
            for address in files:
                varnish.ask(address)
        time.sleep(1.5 * DESCRIPTOR_LASTS)
        for address, data in files.items():
            kept = varnish.ask(address)
            assert (kept.status, kept.body) == (200, data)
        assert varnish.ask("/other.dzi").status == 503
