"""Make the pictures of the admin view in the documentation again, from a real run in Chromium.

python tests-integration/admin_pictures.py
"""

import asyncio
from pathlib import Path

from browsers import launch_browser
from page_pictures import SCHEMES, SIZES
from playwright.async_api import expect
from test_browser_admin import AdminSite, open_admin

FOLDER = Path(__file__).parents[1] / "docs/howto"


async def publish(site: AdminSite) -> None:
    number = 0
    while True:
        number += 1
        site.hub.publish_event("news", {"headline": f"Story {number}"})
        site.hub.send_process_output("build-42", f"[{number}/240] cc -c src/part_{number}.c")
        await asyncio.sleep(0.2)


async def main() -> None:
    async with launch_browser() as browser, open_admin(browser) as site:
        await site.connect("alice", "news", "process:build-42")
        await site.connect("bob", "news")
        slow = await site.connect("carol", "news", "log")
        slow.transport.pause_reading()
        for _ in range(200):
            site.hub.publish_event("log", "x" * 50_000)
        publishing = asyncio.create_task(publish(site))
        page = site.page
        await page.get_by_role("button", name="Trace news").click()
        await expect(page.locator("#frames li")).not_to_have_count(0)
        await asyncio.sleep(2)
        for device, (width, height) in SIZES.items():
            await page.set_viewport_size({"width": width, "height": height + 300})
            await page.evaluate("scrollTo(0, 0)")
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                await page.screenshot(path=FOLDER / f"admin-{device}-{scheme}.png")
        publishing.cancel()


if __name__ == "__main__":
    asyncio.run(main())
