"""docs/serving/bucket.vcl, run by Varnish before a server that speaks as S3 does."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import serving_programs
from serving_page import HEADER_ROWS, json_block
from serving_programs import LocalServer, wait_until
from serving_results import expected_responses, noise_image

import fasttile

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto")

HOST = "tiles.s3.eu-central-1.amazonaws.com"
REGION = "eu-central-1"
MAPS = "/maps"
TILE = "/maps/map_files/9/0_0.jpg"


@pytest.fixture(scope="module")
def bucket_server(required_programs: None) -> Iterator[LocalServer]:
    """A server of buckets."""
    with serving_programs.run_bucket_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3_bucket(bucket_server: LocalServer) -> Iterator[Any]:
    """A client of the buckets `tiles`, which is set up as the page says, and `secret`."""
    with closing(make_client(bucket_server)) as client:
        yield client


def make_client(server: LocalServer) -> Any:
    """A client, with the two buckets made."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name=REGION,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    for name in ("tiles", "secret"):
        there = {"LocationConstraint": REGION}
        client.create_bucket(Bucket=name, CreateBucketConfiguration=there)
    client.put_bucket_policy(Bucket="tiles", Policy=json.dumps(json_block("policy.json")))
    client.put_bucket_cors(Bucket="tiles", CORSConfiguration=json_block("cors.json"))
    return client


@pytest.fixture(scope="module")
def tile_files(s3_bucket: Any) -> Iterator[dict[str, bytes]]:
    """Results in the bucket, by their addresses."""
    with serving_programs.work_folder() as root:
        fasttile.cut(noise_image(600, 500), root / "map.dzi", viewer="openseadragon")
        fasttile.cut(noise_image(600, 500), root / "a b+c.dzi")
        fasttile.cut(noise_image(600, 500), root / "one.pmtiles")
        iiif = "iiif3:id=https://example.org/box%2Fimage"
        fasttile.cut(noise_image(600, 500), root / "box" / "image", layout=iiif)
        found = expected_responses(root, MAPS)
        upload_files(s3_bucket, found)
        yield found


@pytest.fixture(scope="module")
def varnish(bucket_server: LocalServer, tile_files: dict[str, bytes]) -> Iterator[LocalServer]:
    """A Varnish before it."""
    with run_bucket_varnish(bucket_server) as server:
        yield server


def run_bucket_varnish(
    server: LocalServer, s3_bucket: str = "tiles"
) -> AbstractContextManager[LocalServer]:
    """A Varnish with docs/serving/bucket.vcl, which asks the server by the bucket's real name."""
    places = {
        f'.host = "{HOST}"': '.host = "127.0.0.1"',
        '.port = "80"': f'.port = "{server.port}"',
        f'Host = "{HOST}"': f'Host = "{HOST.replace("tiles", s3_bucket)}"',
    }
    return serving_programs.run_varnish("bucket.vcl", places)


def upload_files(s3_bucket: Any, tile_files: dict[str, bytes]) -> None:
    """Put files into the bucket with the headers of the page's table, descriptors last."""
    kinds = {address: HEADER_ROWS[Path(address).suffix] for address in tile_files}
    for address, kind in sorted(
        kinds.items(), key=lambda item: item[1].cache_control, reverse=True
    ):
        s3_bucket.put_object(
            Bucket="tiles",
            Key=unquote(address[1:]),
            Body=tile_files[address],
            ContentType=kind.media_type,
            CacheControl=kind.cache_control,
        )


def test_every_file_comes_through_as_it_is(
    tile_files: dict[str, bytes], varnish: LocalServer
) -> None:
    for address, data in tile_files.items():
        kind = HEADER_ROWS[Path(address).suffix]
        for _ in range(2):
            answer = varnish.request(address)
            assert (answer.status, answer.body) == (200, data), address
            assert (answer["Content-Type"], answer["Cache-Control"]) == (
                kind.media_type,
                kind.cache_control,
            )
            assert answer["Access-Control-Allow-Origin"] == "*"
        if kind.cache_control != "no-cache":
            assert answer["X-Cache"] == "HIT"


def test_a_plus_may_be_spelt_as_it_is(tile_files: dict[str, bytes], varnish: LocalServer) -> None:
    tile = "/maps/a%20b+c_files/9/0_0.jpg"
    varnish.purge("/maps/a%20b+c.dzi")
    answers = [varnish.request(tile), varnish.request(tile.replace("+", "%2B"))]
    assert [answer.body for answer in answers] == [tile_files[tile]] * 2
    assert [answer["X-Cache"] for answer in answers] == ["MISS", "HIT"]


def test_viewers_elsewhere_may_read_it(tile_files: dict[str, bytes], varnish: LocalServer) -> None:
    for address in ("/maps/map.dzi", TILE, "/maps/one.pmtiles"):
        for viewer in ("https://one.example", "https://two.example"):
            answer = varnish.request(address, headers={"Origin": viewer})
            assert answer["Access-Control-Allow-Origin"] == "*"
            assert "ETag" in (answer["Access-Control-Expose-Headers"] or "")


def test_the_bucket_itself_may_be_asked_too(
    bucket_server: LocalServer, tile_files: dict[str, bytes]
) -> None:
    viewer = {"Host": HOST, "Origin": "https://viewer.example"}
    answer = bucket_server.request("/maps/map.dzi", headers=viewer)
    assert (answer.status, answer.body) == (200, tile_files["/maps/map.dzi"])
    assert answer["Access-Control-Allow-Origin"] in ("*", "https://viewer.example")
    assert "ETag" in (answer["Access-Control-Expose-Headers"] or "")


def test_one_file_is_read_by_ranges(tile_files: dict[str, bytes], varnish: LocalServer) -> None:
    data = tile_files["/maps/one.pmtiles"]
    answer = varnish.request("/maps/one.pmtiles", headers={"Range": "bytes=0-126"})
    assert (answer.status, answer.body) == (206, data[:127])
    assert answer["Content-Range"] == f"bytes 0-126/{len(data)}"
    assert answer["X-Cache"] == "PASS"
    tag = answer["ETag"]
    assert tag is not None
    assert not tag.startswith("W/")
    assert varnish.request("/maps/one.pmtiles", headers={"If-None-Match": tag}).status == 304


def test_descriptors_are_compressed_on_their_way(
    tile_files: dict[str, bytes], varnish: LocalServer
) -> None:
    for address in ("/maps/map.html", "/maps/box/image/info.json", "/maps/map.dzi", TILE):
        answer = varnish.request(address, headers={"Accept-Encoding": "gzip"})
        compressed = answer["Content-Encoding"] == "gzip"
        assert compressed == HEADER_ROWS[Path(address).suffix].is_compressed
        assert (gzip.decompress(answer.body) if compressed else answer.body) == tile_files[address]


@pytest.mark.parametrize("address", ["/maps/map_files/9/9_9.jpg", "/maps/other.dzi"])
def test_what_is_missing_may_come_soon(s3_bucket: Any, varnish: LocalServer, address: str) -> None:
    answer = varnish.request(address)
    assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")


def test_a_refusal_is_404(bucket_server: LocalServer, s3_bucket: Any) -> None:
    s3_bucket.put_object(Bucket="secret", Key="map.jpg", Body=b"1")
    assert (
        bucket_server.request("/map.jpg", headers={"Host": HOST.replace("tiles", "secret")}).status
        == 403
    )
    with run_bucket_varnish(bucket_server, "secret") as varnish:
        answer = varnish.request("/map.jpg")
    assert (answer.status, answer["Cache-Control"]) == (404, "public, max-age=60")


@pytest.mark.parametrize(
    "address",
    ["/", "/?list-type=2", "/?acl", "//", "/maps/map_files/", "/.late.dzi.fasttile/1"],
)
def test_nothing_is_listed(
    bucket_server: LocalServer, s3_bucket: Any, varnish: LocalServer, address: str
) -> None:
    s3_bucket.put_object(Bucket="tiles", Key=".late.dzi.fasttile/1", Body=b"1")
    if address.endswith(("/1", "=2")):
        assert bucket_server.request(address, headers={"Host": HOST}).status == 200  # it is there
    answer = varnish.request(address)
    assert answer.status == 404
    assert b"map.dzi" not in answer.body


@pytest.mark.slow
def test_a_question_is_no_question_to_the_bucket(
    tile_files: dict[str, bytes], varnish: LocalServer
) -> None:
    assert varnish.request("/maps/map.dzi?acl").body == tile_files["/maps/map.dzi"]


@pytest.mark.long
def test_a_new_version_and_a_bucket_that_is_gone(required_programs: None) -> None:
    """On a server of its own, which ends before Varnish does."""
    with ExitStack() as front, serving_programs.work_folder() as root:
        with ExitStack() as back:
            store = back.enter_context(serving_programs.run_bucket_server())
            own = back.enter_context(closing(make_client(store)))
            fasttile.cut(noise_image(600, 500), root / "map.dzi")
            old = expected_responses(root, MAPS)
            upload_files(own, old)
            varnish = front.enter_context(run_bucket_varnish(store))
            assert {address: varnish.request(address).body for address in old} == old
            fasttile.cut(noise_image(700, 500, 1), root / "map.dzi", overwrite=True)
            new = expected_responses(root, MAPS)
            time.sleep(1.1)  # moto answers 304 to a time in the same second, also with another tag
            upload_files(own, new)
            assert varnish.request(TILE).body == old[TILE] != new[TILE]
            wait_until(
                lambda: varnish.request("/maps/map.dzi").body == new["/maps/map.dzi"],
                "it comes by itself",
            )
            assert varnish.purge("/maps/map.dzi").status == 200
            assert {address: varnish.request(address).body for address in new} == new
        time.sleep(1.5)
        assert {address: varnish.request(address).body for address in new} == new
        assert varnish.request("/maps/other.dzi").status == 503
