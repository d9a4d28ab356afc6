"""The demo page: what it says and shows, and the page itself in a browser where there is one."""

import select
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

import facehal
from facehal.errors import FacehalError
from facehal.images import read_image, resize, write_png
from facehal.models import from_dict, task_of
from facehal.models.saving import save_model
from facehal.web import VARIANTS, answer, menu

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
    write_png(folder / "green.png", np.full((90, 120, 3), (0, 160, 0), np.uint8))
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


def test_variants_and_another_background(model, files, astronaut):
    best, third = (answer(model, files / "one.png", n) for n in (0, 3))
    assert [name for _, name in best.variants] == [str(n + 1) for n in range(VARIANTS)]
    for (one, _), (two, _) in zip(best.variants, third.variants, strict=True):
        np.testing.assert_array_equal(one, two)  # the same, whichever is chosen
    np.testing.assert_array_equal(third.result, third.variants[2][0])
    assert np.abs(third.result - model.hallucinate(astronaut, seed=3) * 255).max() <= 1.01
    assert best.behind is None
    given = answer(model, files / "one.png", 0, files / "green.png")
    np.testing.assert_array_equal(given.result, best.result)
    assert (given.behind[:8, :8] == (0, 160, 0)).all()  # a corner of the background
    assert np.abs(given.behind[60:70, 60:70] - best.result[60:70, 60:70].astype(int)).max() <= 1
    broken = answer(model, files / "one.png", 0, files / "text.jpg")
    assert broken.behind is None and broken.result is not None
    assert broken.message.startswith("One face found. The background: Not a picture")


def test_the_menu(tmp_path):
    (tmp_path / "EdgeConnect").mkdir()
    trained = tmp_path / "EdgeConnect/model.keras"
    trained.write_bytes(b"")
    found = menu("compact", [f"mine={trained}"], tmp_path)
    assert found == {"compact": "compact", "mine": str(trained), "EdgeConnect": str(trained)}
    for wrong, words in (
        ((["mine"], None), "--system mine: write NAME=MODEL"),
        (([f"compact={trained}"], None), "two systems are called compact"),
        (([], tmp_path / "EdgeConnect"), "no trained system"),
        ((["gone=gone.keras"], None), "gone.keras"),
    ):
        with pytest.raises(FacehalError, match=words):
            menu("compact", *wrong)


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


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A network that knows one picture for every face."""
    task = task_of(from_dict({"size": "tiny", "loss": {"perceptual": 0, "identity": 0}}))
    path = tmp_path_factory.mktemp("untrained") / "model.keras"
    save_model(task.build(0, None, 0).model, path)
    return path


@pytest.fixture
def address(untrained):
    """The page, served by the command on a port of its own."""
    pytest.importorskip("gradio", reason="needs gradio (extra: web)")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from facehal.cli import main; main()"
    command = [sys.executable, "-c", code, "demo-web", "--port", str(port)]
    command += ["--system", f"other={untrained}"]
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


@pytest.fixture
def browser():
    browsers = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with browsers.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


DRAWN = "document.querySelector('#{} img')?.naturalWidth > 0"
PICTURE = "image => image.src"


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desk", "phone"])
def test_the_page_in_a_browser(address, browser, files, size):
    """Used as a person uses it, with the mouse and with the keys alone; nothing is asked of any
    other machine, and nothing is wider than the window."""
    hosts = set()
    page = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)))
    page.set_default_timeout(120_000)
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)

    def drop(name: str, says: str) -> None:
        page.set_input_files("#file input[type=file]", files / name)
        page.wait_for_selector(f"#message:has-text('{says}')")

    def shown(place: str) -> str:
        page.wait_for_function(DRAWN.format(place))
        return page.eval_on_selector(f"#{place} img", PICTURE)

    def changed(before: str) -> str:
        page.wait_for_function(f"document.querySelector('#result img')?.src != '{before}'")
        return shown("result")

    drop("one.png", "One face found")
    for place, width in (("result", 128), ("pasted", 512), ("photo", 512)):
        shown(place)
        assert page.eval_on_selector(f"#{place} img", "image => image.naturalWidth") == width
    assert page.locator("#steps img").count() == 7
    assert page.locator("#variants img").count() == VARIANTS
    assert not page.locator("#behind").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    columns = page.eval_on_selector(
        "#variants .grid-container", "grid => getComputedStyle(grid).gridTemplateColumns"
    )
    assert len(columns.split()) == (12 if size[0] > 1000 else 3)

    # With the keys alone: another variant, and its picture as a file.
    best = shown("result")
    page.focus("#variant input[type=range]")
    page.keyboard.press("ArrowRight")
    first = changed(best)
    page.focus("#result a[download], #result button[aria-label='Download']")
    with page.expect_download() as saved:
        page.keyboard.press("Enter")
    assert read_image(saved.value.path()).shape == (128, 128, 3)

    page.locator("#variants button").nth(4).click()
    fifth = changed(first)
    assert page.input_value("#variant input[type=number]") == "5"
    page.click("#system input")
    page.click("[role=option]:has-text('other')")
    changed(fifth)
    assert not page.locator("#variants").is_visible()
    assert page.is_disabled("#variant input[type=range]")
    page.set_input_files("#background input[type=file]", files / "green.png")
    shown("behind")

    for name, says in (
        ("grey.png", "no face found"),
        ("two.png", "2 faces found"),
        ("text.jpg", "Not a picture"),
    ):
        page.click("#file button[aria-label='Clear']")
        page.wait_for_selector("#message:has-text('Drop a photo')")
        drop(name, says)
    assert hosts - {None} == {"127.0.0.1"}
