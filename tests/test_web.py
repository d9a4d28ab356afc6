"""The demo page: what it says and shows, and the page itself in a browser where there is one."""

import select
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

import facehal
from facehal.images import read_image, resize, write_png
from facehal.web import answer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def model():
    return facehal.load()


@pytest.fixture(scope="module")
def files(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("dropped")
    write_png(folder / "one.png", astronaut)
    larger = resize(np.ascontiguousarray(astronaut[:340, 60:400]), 512)
    write_png(folder / "two.png", np.concatenate([astronaut, larger], axis=1))
    write_png(folder / "grey.png", np.full((64, 1500, 3), 128, np.uint8))
    (folder / "text.jpg").write_text("not a picture")
    return folder


def test_a_photo_gives_every_picture(model, files, astronaut):
    given = answer(model, files / "one.png")
    assert given.message == "One face found."
    names = [name for _, name in given.steps]
    assert names == ["aligned", "face mask", "8×8", "16×16", "32×32", "64×64", "128×128"]
    assert {picture.shape for picture, _ in given.steps} == {(256, 256, 3)}
    eight = given.steps[2][0]
    assert (eight[:32, :32] == eight[0, 0]).all()  # pixels stay squares
    np.testing.assert_array_equal(given.photo, astronaut)
    np.testing.assert_array_equal(given.pasted, model.paste(astronaut))
    expected = model.hallucinate(astronaut) * 255
    assert np.abs(given.result - expected).max() <= 0.51


def test_messages_say_what_was_found(model, files):
    several = answer(model, files / "two.png")
    assert several.message == "2 faces found: the largest one was taken."
    # The larger of them is on the right.
    changed = (several.pasted != read_image(files / "two.png")).any(-1)
    assert not changed[:, :512].any() and changed[:, 512:].any()
    nobody = answer(model, files / "grey.png")
    assert "no face found" in nobody.message and nobody.result is None and not nobody.steps
    assert nobody.photo.shape == (44, 1024, 3)
    broken = answer(model, files / "text.jpg")
    assert broken.message == "Not a picture that can be read." and broken.photo is None
    assert "cannot be read" in answer(model, files / "gone.png").message
    assert answer(model, None).message.startswith("Drop a photo")


def test_without_gradio_the_command_says_what_to_install():
    code = "import sys; sys.modules['gradio'] = None\nfrom facehal.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo-web"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    line = "facehal: demo-web needs the package gradio: pip install 'facehal[web]'"
    assert done.stderr.strip() == line


@pytest.fixture
def address():
    """The page, served by the command on a port of its own."""
    pytest.importorskip("gradio", reason="needs gradio (extra: web)")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from facehal.cli import main; main()"
    command = [sys.executable, "-c", code, "demo-web", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            ready, _, _ = select.select([process.stdout], [], [], 300)
            line = process.stdout.readline() if ready else ""
            assert "shows the page" in line, line or "no page within five minutes"
            taken = subprocess.run(command, capture_output=True, text=True, check=False)
            assert taken.returncode == 1
            assert f"port {port} cannot be used" in taken.stderr.strip().splitlines()[-1]
            yield line.split()[0]
        finally:
            process.terminate()


def test_the_page_in_a_browser(address, files):
    """Upload photos as a person does; nothing is asked of any other machine."""
    browsers = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    hosts = set()
    with browsers.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(address)

        def drop(name: str, says: str) -> None:
            page.set_input_files("#file input[type=file]", files / name)
            page.wait_for_selector(f"#message:has-text('{says}')")

        drop("one.png", "One face found")
        size = "image => image.naturalWidth"
        for place, width in (("result", 128), ("pasted", 512), ("photo", 512)):
            page.wait_for_function(f"document.querySelector('#{place} img')?.naturalWidth > 0")
            assert page.eval_on_selector(f"#{place} img", size) == width
        assert page.locator("#steps img").count() == 7
        for name, says in (
            ("grey.png", "no face found"),
            ("two.png", "2 faces found"),
            ("text.jpg", "Not a picture"),
        ):
            page.click("#file button[aria-label='Clear']")
            page.wait_for_selector("#message:has-text('Drop a photo')")
            drop(name, says)
        browser.close()
    assert hosts - {None} == {"127.0.0.1"}
