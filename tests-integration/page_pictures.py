"""Make the pictures of the live page in the documentation again, from a real run in Chromium.

python tests-integration/page_pictures.py
"""

import asyncio
import sys
from pathlib import Path
from typing import Literal

from browsers import launch_browser
from page_site import Site, line, open_site
from playwright.async_api import expect

from wshub_core import run_process

FOLDER = Path(__file__).parents[1] / "docs/howto"
BUILD = r"""
import sys
for number in range(1, 240):
    print(f"[{number}/240] cc -O2 -Wall -Iinclude -c src/part_{number}.c -o build/part_{number}.o")
    if number % 40 == 7:
        print(f"src/part_{number}.c:12:9: \x1b[1;35mwarning:\x1b[0m unused variable 'index'")
print("src/part_240.c:31:5: \x1b[1;31merror:\x1b[0m expected ';' before 'return'")
print("make: *** [Makefile:14: build/part_240.o] \x1b[31mError 1\x1b[0m")
sys.exit(2)
"""
SIZES = {"desktop": (960, 480), "phone": (390, 700)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


async def run_builds(site: Site) -> None:
    for process_id, code in (
        ("lint", "print('All checks passed!')"),
        ("tests", "import time; time.sleep(0.8); print('412 passed')"),
        ("build-42", BUILD),
    ):
        await run_process(site.hub, process_id, sys.executable, "-c", code)
    site.hub.send_process_status("build-43", "running")
    site.hub.send_process_output("build-43", "[1/240] cc -O2 -Wall -Iinclude -c src/part_1.c")


async def main() -> None:
    async with launch_browser() as browser, open_site(browser) as site:
        await run_builds(site)
        page = site.page
        await site.open("process:build-42")
        await expect(line(page, "exited with 2")).to_be_visible()
        for device, (width, height) in SIZES.items():
            await page.set_viewport_size({"width": width, "height": height})
            await page.get_by_role("button", name="First error").click()
            await page.mouse.move(0, 0)
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                await expect(page.locator(".marked")).to_be_in_viewport()
                await page.screenshot(path=FOLDER / f"page-{device}-{scheme}.png")


if __name__ == "__main__":
    asyncio.run(main())
