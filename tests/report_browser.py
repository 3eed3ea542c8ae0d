"""Reports in headless Chromium: no console messages, no requests, nothing wider than a phone's or a
desktop's window, light and dark, sorting by click and by keyboard, hostile names. Optional: skipped
where Debian's chromium, chromium-driver and python3-selenium are not installed.

usage: report_browser.py MUONSPEC EXAMPLE [FOLDER]   (screenshots stay in FOLDER)"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

MUONSPEC, EXAMPLE = map(os.path.abspath, sys.argv[1:3])
KEPT = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

HOSTILE = ["model.layers.0.<script>document.title='bad'</script>.weight",
           "model.layers.1.\"><img src=x onerror=\"document.title='bad'\">.weight",
           "model.layers.2.'</title></svg><script>document.title='bad'</script>.weight",
           "model.layers.3.&lt;b&gt;`touch x`$(touch y).weight"]


def report(output, *arguments):
    done = subprocess.run([MUONSPEC, "report", "-q", "--no-store", "-o", output, *arguments],
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def safetensors(path, names):
    header = {n: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * i, 16 * i + 16]}
              for i, n in enumerate(names)}
    text = json.dumps(header).encode()
    values = bytes.fromhex("0000803f000000400000404000008040")
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + values * len(names))


def start(profile):
    options = Options()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 "disable-dev-shm-usage", "user-data-dir=" + profile):
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.execute_cdp_cmd("Network.enable", {})
    return driver


def requests(driver):
    urls = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
    return urls


def look(driver, page, name, width, scheme):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
    driver.get_log("performance")
    url = "file://" + page
    begun = time.time()
    driver.get(url)
    seconds = time.time() - begun
    urls = requests(driver)
    assert urls == [url], urls
    messages = driver.get_log("browser")
    assert not messages, messages
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, f"{name}: {wide} wide in a window of {width}"
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light"), background
    if KEPT:
        shot = os.path.join(KEPT, f"{name}-{width}-{scheme}.png")
        driver.save_screenshot(shot)
    return seconds


def column(driver, table, index):
    return driver.execute_script(
        "return Array.prototype.map.call(arguments[0].tBodies[0].rows,"
        "function(r){var v=r.cells[arguments_1].dataset.v;return v===undefined?null:Number(v)})"
        .replace("arguments_1", str(index)), table)


def check_sorting(driver):
    """The table of matrices: largest first on a click, smallest first on Enter."""
    table = next(t for t in driver.find_elements(By.CSS_SELECTOR, "table.sort")
                 if t.find_element(By.TAG_NAME, "caption").get_attribute("textContent") == "Matrices")
    heads = table.find_elements(By.CSS_SELECTOR, "thead button")
    index = [h.get_attribute("textContent") for h in heads].index("svd_entropy")
    heads[index].click()
    values = [v for v in column(driver, table, index) if v is not None]
    assert len(values) > 3 and values == sorted(values, reverse=True), values
    assert heads[index].find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    heads[index].send_keys(Keys.ENTER)
    assert [v for v in column(driver, table, index) if v is not None] == sorted(values)
    heads[0].send_keys(Keys.SPACE)
    assert heads[0].find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    assert heads[index].find_element(By.XPATH, "..").get_attribute("aria-sort") is None


def check_page(driver, page, name):
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            look(driver, page, name, width, scheme)
    check_sorting(driver)
    for figure in driver.find_elements(By.CSS_SELECTOR, "figure svg"):
        assert figure.get_attribute("role") == "img" and figure.get_attribute("aria-label")
    ids = driver.execute_script("return Array.prototype.map.call(document.querySelectorAll('[id]'),"
                                "function(e){return e.id})")
    assert len(ids) == len(set(ids)), "ids twice"


def main():
    if not (webdriver and CHROMIUM and DRIVER):
        print("report_browser: skipped, needs chromium, chromium-driver and python3-selenium")
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        safetensors("hostile.safetensors", HOSTILE)
        report("checkpoint.html", os.path.join(EXAMPLE, "step-001600.h5"))
        report("run.html", EXAMPLE)
        report("comparison.html", os.path.join(EXAMPLE, "step-000400.h5"),
               os.path.join(EXAMPLE, "step-001600.h5"), "--label", "<b>early</b>")
        report("hostile.html", "hostile.safetensors")
        driver = start(os.path.join(scratch, "profile"))
        try:
            for name in ("checkpoint", "run", "comparison", "hostile"):
                check_page(driver, os.path.join(scratch, name + ".html"), name)
            assert driver.title == "hostile.safetensors: muonspec report", driver.title
            assert not driver.find_elements(By.TAG_NAME, "img")
            assert len(driver.find_elements(By.TAG_NAME, "script")) == 1
        finally:
            driver.quit()
        os.chdir("/")
    print("report_browser: 4 pages, phone and desktop, light and dark: passed")


if __name__ == "__main__":
    main()
