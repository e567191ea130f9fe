"""The FastAPI example with the live page, from outside: a browser follows a build."""

import httpx
from browsers import launch_browser, open_page
from example_sites import run_site
from playwright.async_api import expect


async def test_a_build_is_followed_on_the_mounted_page() -> None:
    complaints: list[str] = []
    async with run_site("fastapi_page") as site, launch_browser() as browser:
        # Without the slash at the end.
        page = await open_page(browser, f"{site.address}/live", complaints)
        assert page.url == f"{site.address}/live/"
        await expect(page.locator("#state")).to_have_text("connected")
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(f"{site.address}/builds")
            assert response.json() == {"channel": "process:build-1"}
        await expect(page.locator("#name")).to_have_text("process:build-1")
        await expect(page.locator(".line", has_text="exited with 0")).to_have_count(1)
        texts = await page.locator(".line > span").all_text_contents()
        lines = [f"compiling file {number}" for number in range(20)]
        assert texts == ["running", *lines, "exited with 0"]
    assert complaints == []
    assert "Traceback" not in site.log
