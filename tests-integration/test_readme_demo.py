"""The README's demo command, in a fresh clone with empty caches, seen in a browser.

The test takes minutes and downloads packages, so it runs only if ``WSHUB_TEST_DEMO`` is set, as in
``.ci/run``.
"""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from browsers import launch_browser, open_page
from demo_process import free_port
from playwright.async_api import expect

REPOSITORY = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    "WSHUB_TEST_DEMO" not in os.environ, reason="WSHUB_TEST_DEMO is not set"
)


def demo_command() -> str:
    """Return the command in the README's section about the demo."""
    section = (REPOSITORY / "README.md").read_text().partition("## See it run")[2]
    match = re.search(r"```console\n\$ (.+hatch run demo)\n```", section)
    assert match is not None, "the README has no demo command"
    return match[1]


@pytest.mark.timeout(1_200)
async def test_the_demo_shows_the_tests_passing(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(  # noqa: ASYNC221 - nothing else runs yet
        ["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True
    )
    port = free_port()
    # Empty caches: a package from an earlier installation cannot hide an undeclared dependency.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HATCH", "PYTEST", "VIRTUAL_ENV", "XDG_"))
    }
    environment |= {
        "HOME": str(home),
        "PIP_CACHE_DIR": str(tmp_path / "pip"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "PORT": str(port),
    }
    demo = await asyncio.create_subprocess_shell(
        f"exec bash -c {demo_command()!r}",
        cwd=clone,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert demo.stdout is not None
        while (line := await demo.stdout.readline()) and b"Open http://localhost" not in line:
            pass
        assert line, "the demo has ended"
        complaints: list[str] = []
        async with launch_browser() as browser:
            page = await open_page(browser, f"http://localhost:{port}/", complaints)
            await expect(page.locator("#state")).to_have_text("connected")
            await expect(page.locator("#status")).to_have_text("running")
            await expect(page.locator(".line", has_text="PASSED").first).to_be_visible(
                timeout=60_000
            )
            # Green, as pytest shows it in a terminal.
            await expect(page.locator(".fg2", has_text="PASSED").first).to_be_visible()
            ended = page.locator(".line.note", has_text="exited with").first
            await expect(ended).to_be_visible(timeout=900_000)
            failed = page.locator(".line", has_text=re.compile(r"(FAILED|ERROR) packages/"))
            assert "exited with 0" in (await ended.inner_text()), await failed.all_inner_texts()
            summary = page.locator(".line", has_text=re.compile(r"\d+ passed")).first
            await expect(summary).to_be_visible()
            count = re.match(r"[\d,]+", await page.locator("#count").inner_text())
            assert count is not None
            assert int(count[0].replace(",", "")) > 500
            assert complaints == []
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(30):
                await demo.wait()
        except TimeoutError:
            os.killpg(demo.pid, signal.SIGKILL)
            await demo.wait()
