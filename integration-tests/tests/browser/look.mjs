// Opens pages of the collector in Chromium and prints what is seen as JSON.
// `look.mjs PLAYWRIGHT_FOLDER CHROMIUM SCREENSHOT_FOLDER NAME=URL..`

import { createRequire } from "node:module";
import path from "node:path";

const [modules, executablePath, screenshots, ...pages] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "x.js"))("playwright-core");

const SCREENS = [
  { name: "wide", width: 1280, colorScheme: "light" },
  { name: "dark", width: 1280, colorScheme: "dark" },
  { name: "narrow", width: 360, colorScheme: "light" },
];

// Runs in the page.
function seen() {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((e) => e.innerText.trim());
  const tables = {};
  for (const region of document.querySelectorAll("[role=region]")) {
    const rows = [...region.querySelectorAll("tr")];
    tables[region.getAttribute("aria-label")] = rows.map((row) => [...row.cells].map((c) => c.innerText.trim()));
  }
  const misaligned = [...document.querySelectorAll("td.number")].filter((cell) => {
    const head = cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
    return getComputedStyle(head).textAlign !== "right";
  });
  return {
    title: document.title,
    headings: texts("h1, h2"),
    totals: Object.fromEntries([...document.querySelectorAll(".totals > div")].map((d) => [
      d.querySelector("dt").innerText, [...d.querySelectorAll("dd")].map((e) => e.innerText.trim())])),
    tables,
    empty: texts(".empty"),
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    misaligned: misaligned.length,
    foreign: document.querySelectorAll("script, main img, main b, main iframe").length,
    background: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
  };
}

// Runs in the page.
function focused() {
  const element = document.activeElement;
  const outline = getComputedStyle(element).outlineStyle;
  const name = element.getAttribute("aria-label") || element.innerText.trim();
  return { tag: element.tagName.toLowerCase(), name, href: element.getAttribute("href"), visible: outline !== "none" };
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const found = {};
for (const entry of pages) {
  const [name, url] = [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)];
  found[name] = { complaints: [], dialogs: 0 };
  for (const screen of SCREENS) {
    const page = await browser.newPage({ viewport: { width: screen.width, height: 800 }, colorScheme: screen.colorScheme });
    page.on("console", (message) => found[name].complaints.push(message.text()));
    page.on("pageerror", (error) => found[name].complaints.push(String(error)));
    page.on("requestfailed", (request) => found[name].complaints.push(request.url()));
    page.on("dialog", (dialog) => { found[name].dialogs += 1; dialog.dismiss(); });
    await page.goto(url);
    found[name][screen.name] = await page.evaluate(seen);
    await page.screenshot({ path: path.join(screenshots, `${name}-${screen.name}.png`), fullPage: true });
    if (screen.name === "wide") {
      const order = [];
      for (let step = 0; step < 12; step += 1) {
        await page.keyboard.press("Tab");
        const place = await page.evaluate(focused);
        // Behind the last one the browser itself has the focus.
        if (place.tag === "body") break;
        order.push(place);
      }
      found[name].focus = order;
    }
    await page.close();
  }
}
await browser.close();
console.log(JSON.stringify(found));
