"""Reports in headless Chromium: no console messages, no requests, nothing wider than a phone's or a
desktop's window, readable contrast in light and dark, on paper too; the numbers in the page are
those of the JSON, every one of them; tables sort by click and by keyboard; hostile names do nothing.
Says how large a page of 5,209 matrices is and how long it takes to open. Skipped without Debian's
chromium, chromium-driver and python3-selenium.

usage: report_browser.py MUONSPEC NOTEBOOKS_DATA DATA_FOLDER [FOLDER]   (screenshots go to FOLDER)"""
import array
import base64
import json
import os
import random
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import report_numbers as numbers

MUONSPEC, NOTEBOOKS, DATA = map(os.path.abspath, sys.argv[1:4])
KEPT = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else None
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

MOST_BYTES = 15_000_000
HOSTILE = ["model.layers.0.<script>document.title='bad'</script>.weight",
           "model.layers.1.\"><img src=x onerror=\"document.title='bad'\">.weight",
           "model.layers.2.'</title></noscript></svg><script>document.title='bad'</script>.weight",
           "model.layers.3.&lt;b&gt;`touch x`$(touch y).weight"]
EXAMPLE = os.path.join(NOTEBOOKS, "example")
LATE = os.path.join(EXAMPLE, "step-001600.h5")
FER = os.path.join(DATA, "series-fer2013")
TRAININGS = [os.path.join(NOTEBOOKS, "weight-decay", "checkpoints", run)
             for run in ("muon-decay", "adamw-decay")]


# ---- pages -----------------------------------------------------------------------------------

def report(name, *arguments):
    path = os.path.abspath(name + ".html")
    numbers.run(MUONSPEC, "report", "-q", "--no-store", "-o", path, *arguments)
    return path


def values(*arguments):
    return numbers.values(MUONSPEC, *arguments)


def last_file(folder):
    steps = values("track", "--no-store", folder)["checkpoints"]
    return steps[-1]["path"]


def safetensors(path, names, shape=(2, 2), seed=1):
    count = shape[0] * shape[1]
    draw, header, data = random.Random(seed), {}, array.array("f")
    for i, name in enumerate(names):
        header[name] = {"dtype": "F32", "shape": list(shape),
                        "data_offsets": [4 * count * i, 4 * count * (i + 1)]}
        data.extend(draw.gauss(0, 0.02) for _ in range(count))
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data.tobytes())


def names_of_moonlight():
    """5,209 matrices as a mixture of experts has them."""
    names = ["model.embed_tokens.weight", "lm_head.weight"]
    mlp = ["gate_proj", "up_proj", "down_proj"]
    for layer in range(27):
        parts = ["self_attn." + n for n in ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")]
        parts += ["mlp." + m for m in mlp] if layer == 0 else ["mlp.gate"]
        if layer:
            parts += [f"mlp.experts.{e}.{m}" for e in range(64) for m in mlp]
            parts += ["mlp.shared_experts." + m for m in mlp]
        names += [f"model.layers.{layer}.{part}.weight" for part in parts]
    return names


# ---- the browser -------------------------------------------------------------------------------

def start(profile):
    options = Options()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 "disable-dev-shm-usage", "user-data-dir=" + profile):
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.set_script_timeout(300)
    driver.execute_cdp_cmd("Network.enable", {})
    return driver


def requests(driver):
    urls = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
    return urls


def set_window(driver, width):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})


def set_media(driver, scheme, kind="screen"):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "media": kind, "features": [{"name": "prefers-color-scheme", "value": scheme}]})


# contrast of text by WCAG 2.1: [least ratio, where]
CONTRAST = """
const light=c=>{const v=c.match(/[\\d.]+/g).slice(0,3).map(x=>{x/=255;
  return x<=0.04045?x/12.92:((x+0.055)/1.055)**2.4});return 0.2126*v[0]+0.7152*v[1]+0.0722*v[2]};
const ground=e=>{for(;e;e=e.parentElement){const b=getComputedStyle(e).backgroundColor;
  if(!/, 0\\)$|transparent/.test(b))return b}return 'rgb(255, 255, 255)'};
let worst=[99,''];
document.querySelectorAll('h1,h2,h3,p,li,figcaption,caption,td,th button,summary,dt,dd,.dim,.risk,'
  +'.watch,svg text').forEach(e=>{
  const s=getComputedStyle(e),a=light(e.closest('svg')?s.fill:s.color),b=light(ground(e)),
    r=(Math.max(a,b)+0.05)/(Math.min(a,b)+0.05);
  if(r<worst[0])worst=[r,e.tagName+' '+e.className+': '+e.textContent.slice(0,40)]});
return worst"""


def look(driver, page, name, width):
    """Opens it; both schemes."""
    set_window(driver, width)
    set_media(driver, "light")
    driver.get_log("performance")
    driver.get("file://" + page)
    for scheme in ("light", "dark"):
        set_media(driver, scheme)
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, f"{name}: {wide} wide in a window of {width}"
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light"), ground
        ratio, where = driver.execute_script(CONTRAST)
        assert ratio >= 4.5, (name, scheme, ratio, where)
        if KEPT:
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            with open(os.path.join(KEPT, f"{name}-{width}-{scheme}.png"), "wb") as f:
                f.write(base64.b64decode(shot["data"]))
    check_quiet(driver, page)


def check_quiet(driver, page):
    urls, messages = requests(driver), driver.get_log("browser")
    assert urls == ["file://" + page], urls
    assert not messages, messages


# ---- tables --------------------------------------------------------------------------------------

class BrowserPage(numbers.Tables):
    """What the page shows once everything is unfolded."""

    def __init__(self, driver):
        self.tables = {}
        for summary in driver.find_elements(By.CSS_SELECTOR, "details:not([open]) > summary"):
            summary.send_keys(Keys.ENTER)
        for caption, columns, rows in driver.execute_async_script("""
            const done=arguments[0];
            setTimeout(()=>done(Array.from(document.querySelectorAll('table.sort'),t=>[
              t.caption.textContent,Array.from(t.tHead.rows[0].cells,c=>c.textContent),
              Array.from(t.tBodies[0].rows,r=>Array.from(r.cells,c=>
                c.dataset.v===undefined?c.textContent.trim():Number(c.dataset.v)))])))"""):
            self.add_table(caption, columns, rows)
        assert not driver.find_elements(By.TAG_NAME, "noscript"), "every table is made"


def check_shown(driver):
    """What is to be read is the number, to four digits, or three with an exponent."""
    wrong = driver.execute_script("""
        return Array.from(document.querySelectorAll('td[data-v]')).filter(e=>{
          const exact=Number(e.dataset.v),shown=Number(e.textContent),
            digits=e.textContent.includes('e')?6e-3:6e-4;
          return!(Math.abs(shown-exact)<=Math.max(digits*Math.abs(exact),5.1e-5))
        }).slice(0,5).map(e=>[e.dataset.v,e.textContent])""")
    assert not wrong, wrong


def find_table(driver, caption):
    return next(t for t in driver.find_elements(By.CSS_SELECTOR, "table.sort") if
                t.find_element(By.TAG_NAME, "caption").get_attribute("textContent") == caption)


def first_cells(driver, table):
    return driver.execute_script("return Array.from(arguments[0].tBodies[0].rows,"
                                 "r=>r.cells[0].textContent.trim())", table)


def check_sorting(driver, wanted):
    """The table of matrices by entropy: the largest first on a click, the smallest first on Enter,
    by name on Space; what has no entropy is last."""
    table = find_table(driver, "Matrices")
    heads = table.find_elements(By.CSS_SELECTOR, "thead button")
    index = [h.get_attribute("textContent") for h in heads].index("svd_entropy")
    state = lambda i: heads[i].find_element(By.XPATH, "..").get_attribute("aria-sort")
    entropy = {m["name"]: m["metrics"]["svd_entropy"] for m in wanted["matrices"]}
    known = sorted(v for v in entropy.values() if v is not None)
    assert len(known) > 3
    heads[index].click()
    shown = [entropy[n] for n in first_cells(driver, table)]
    assert shown[:len(known)] == known[::-1] and not any(shown[len(known):]), shown
    assert state(index) == "descending"
    heads[index].send_keys(Keys.ENTER)
    shown = [entropy[n] for n in first_cells(driver, table)]
    assert shown[:len(known)] == known and len(shown) == len(entropy), shown
    assert state(index) == "ascending"
    heads[0].send_keys(Keys.SPACE)
    assert state(0) == "ascending" and state(index) is None
    assert sorted(entropy) == sorted(first_cells(driver, table))


def check_keyboard(driver):
    """Tab reaches every control that there is, and each shows that it has the focus."""
    controls = driver.execute_script("""
        return Array.from(document.querySelectorAll('button:not(:disabled),input,summary,[tabindex]'))
          .filter(e=>e.getClientRects().length).length""")
    reached = set()
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    for _ in range(controls + 2):  # it goes round: the window itself is one of the places
        outline = driver.execute_script("""
            const e=document.activeElement,s=getComputedStyle(e);
            return e===document.body?null:s.outlineStyle+' '+s.outlineWidth""")
        assert outline in (None, "solid 2px"), outline
        if outline:
            reached.add(driver.switch_to.active_element)
        driver.switch_to.active_element.send_keys(Keys.TAB)
    assert len(reached) == controls > 10, (len(reached), controls)


# ---- the tests -------------------------------------------------------------------------------------

def check_page(driver, page, name):
    for width in (390, 1280):
        look(driver, page, name, width)
    for figure in driver.find_elements(By.CSS_SELECTOR, "figure svg"):
        assert figure.get_attribute("role") == "img" and figure.get_attribute("aria-label")
    ids = driver.execute_script("return Array.from(document.querySelectorAll('[id]'),e=>e.id)")
    assert len(ids) == len(set(ids)), "ids twice"
    shown = BrowserPage(driver)
    check_shown(driver)
    return shown


def test_checkpoint(driver):
    shown = check_page(driver, report("checkpoint", LATE), "checkpoint")
    wanted = values("analyze", LATE)
    compared = numbers.check_weights(shown, wanted) + numbers.check_risks(shown, values("risk", LATE))
    check_sorting(driver, wanted)
    check_keyboard(driver)
    return compared


def check_run(driver, name, folder):
    page = report(name, folder)
    shown = check_page(driver, page, name)
    wanted = values("analyze", last_file(folder))
    compared = numbers.check_run(shown, values("track", "--no-store", folder))
    compared += numbers.check_weights(shown, wanted)
    compared += numbers.check_risks(shown, values("risk", folder))
    check_sorting(driver, wanted)
    check_quiet_after(driver)
    return compared


def check_quiet_after(driver):
    assert not requests(driver) and not driver.get_log("browser"), "sorting is quiet"


def test_run(driver):
    return check_run(driver, "run", EXAMPLE)


def test_series(driver):
    if not os.path.isdir(FER):
        print("report_browser: no", FER)
        return 0
    return check_run(driver, "series", FER)


def test_comparison(driver):
    page = report("comparison", *TRAININGS, "--label", "muon", "--label", "adamw")
    shown = check_page(driver, page, "comparison")
    compared = numbers.check_comparison(shown, values("compare", "--no-store", *TRAININGS))
    for side, suffix in enumerate(("", " 2")):
        wanted = values("analyze", last_file(TRAININGS[side]))
        compared += numbers.check_weights(shown, wanted, suffix)
        compared += numbers.check_risks(shown, values("risk", TRAININGS[side]), suffix)
        recorded = numbers.check_activations(shown, values("track", "--no-store", TRAININGS[side]),
                                             suffix)
        assert recorded > 20
        compared += recorded
    check_sorting(driver, values("analyze", last_file(TRAININGS[0])))
    check_quiet_after(driver)
    check_paper(driver, page)
    return compared


def check_paper(driver, page):
    """Printed from a dark window: light, unfolded, nothing sticky; and folded again afterwards."""
    driver.get("file://" + page)
    set_media(driver, "dark", "print")
    ground, position, hidden = driver.execute_script("""
        return[getComputedStyle(document.body).backgroundColor,
          getComputedStyle(document.querySelector('td')).position,
          Array.from(document.querySelectorAll('details:not(.long)'))
            .filter(d=>!d.lastElementChild.checkVisibility()).length]""")
    assert ground == "rgb(255, 255, 255)" and position == "static" and not hidden
    set_media(driver, "light")
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    if KEPT:
        with open(os.path.join(KEPT, "paper.pdf"), "wb") as f:
            f.write(pdf)
    assert not driver.find_elements(By.TAG_NAME, "noscript"), "long tables were made for it"
    assert not driver.find_elements(By.CSS_SELECTOR, "details[open]")


def test_hostile_names(driver):
    safetensors("hostile.safetensors", HOSTILE + [f"{i}.{HOSTILE[2]}" for i in range(120)])
    page = report("hostile", "hostile.safetensors")
    shown = check_page(driver, page, "hostile")
    assert driver.title == "hostile.safetensors: muonspec report", driver.title
    assert not driver.find_elements(By.TAG_NAME, "img")
    assert len(driver.find_elements(By.TAG_NAME, "script")) == 1
    assert {r["matrix"] for r in shown.records("Matrices")} >= set(HOSTILE)
    check_pager(driver)
    return numbers.check_weights(shown, values("analyze", "hostile.safetensors"))


def check_pager(driver):
    table = find_table(driver, "Matrices")
    seen = lambda: driver.execute_script(
        "return Array.from(arguments[0].tBodies[0].rows).filter(r=>!r.hidden).length", table)
    pager = driver.find_element(By.CSS_SELECTOR, ".pager")
    back, onward, every = pager.find_elements(By.TAG_NAME, "button")
    state = lambda: pager.find_element(By.CSS_SELECTOR, "[role=status]").text
    assert seen() == 100 and state() == "Rows 1 to 100 of 124" and not back.is_enabled()
    onward.click()
    assert seen() == 24 and state() == "Rows 101 to 124 of 124" and not onward.is_enabled()
    every.click()
    assert seen() == 124
    find = pager.find_element(By.TAG_NAME, "input")
    find.send_keys("ONERROR")
    assert seen() == 1 and state() == "Rows 1 to 1 of 1"
    find.send_keys("x")
    assert seen() == 0 and state() == "No such row"


TWO_FRAMES = "requestAnimationFrame(()=>requestAnimationFrame(()=>setTimeout(f)))"


def opening_seconds(driver, page):
    """Navigation, both frames after it, and then a long table unfolded."""
    driver.get("about:blank")
    begun = time.time()
    driver.get("file://" + page)
    driver.execute_async_script("const f=arguments[0];" + TWO_FRAMES)
    opened = time.time() - begun
    unfolded = driver.execute_async_script("""
        const done=arguments[0],begun=performance.now(),f=()=>done((performance.now()-begun)/1000);
        document.querySelector('details.long').open=true;""" + TWO_FRAMES)
    return opened, unfolded


def test_many_matrices(driver):
    names = names_of_moonlight()
    assert len(names) == 5209
    for seed, path in ((1, "many.safetensors"), (2, "others.safetensors")):
        safetensors(path, names, (8, 12), seed)
    for name, paths in (("many", ["many.safetensors"]),
                        ("many-compared", ["many.safetensors", "others.safetensors"])):
        page = report(name, *paths)
        size = os.path.getsize(page)
        assert size < MOST_BYTES, size
        for width in (390, 1280):
            set_window(driver, width)
            opened, unfolded = opening_seconds(driver, page)
            elements = driver.execute_script("return document.getElementsByTagName('*').length")
            print(f"report_browser: {name}, {size / 1e6:.1f} MB, {width} px: {opened:.2f} s to open, "
                  f"{unfolded:.2f} s to unfold a table, {elements} elements then")
    shown = BrowserPage(driver)
    compared = numbers.check_weights(shown, values("analyze", "many.safetensors"))
    compared += numbers.check_weights(shown, values("analyze", "others.safetensors"), " 2")
    return compared


def main():
    if not (webdriver and CHROMIUM and DRIVER):
        print("report_browser: skipped, needs chromium, chromium-driver and python3-selenium")
        return
    begun, compared = time.time(), 0
    tests = [f for n, f in globals().items() if n.startswith("test_")]
    with tempfile.TemporaryDirectory(prefix="muonspec-browser-") as scratch:
        os.chdir(scratch)
        driver = start(os.path.join(scratch, "profile"))
        try:
            for test in tests:
                compared += test(driver)
        finally:
            driver.quit()
            os.chdir("/")
    print(f"report_browser: {len(tests)} tests passed in {time.time() - begun:.0f} s, "
          f"{compared} numbers compared")


if __name__ == "__main__":
    main()
