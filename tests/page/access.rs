//! The page for people who use the keyboard, a screen reader, a narrow screen or a dark one.

use serde_json::{Value, json};

use crate::browser::keys;
use crate::cluster::{Shown, WINDOW, without_containers};
use crate::common;

/// Finds what a reader of the page's structure would miss, as sentences.
const STRUCTURE: &str = r#"
const found = [];
const visible = (e) => e.getClientRects().length > 0;
const name = (e) => (e.getAttribute('aria-label') || (e.labels && e.labels[0] && e.labels[0].textContent) ||
  e.textContent || '').trim();
for (const e of document.querySelectorAll('a, button, input, select, [role=meter], [role=region], nav, section')) {
  if (visible(e) && !name(e)) found.push(`${e.outerHTML.slice(0, 80)} has no name`);
}
for (const e of document.querySelectorAll('input, select')) {
  if (!e.labels || !e.labels.length) found.push(`${e.id} has no label`);
}
for (const [selector, count] of [['main', 1], ['header', 1], ['footer', 1], ['h1', 1], ['[role=search]', 1],
    ['[aria-live=polite]#live', 1], ['#banner[role=status]', 1]]) {
  const there = document.querySelectorAll(selector).length;
  if (there !== count) found.push(`${there} of ${selector}`);
}
if (!document.documentElement.lang) found.push('no language');
if (!document.title) found.push('no title');
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => found.push(`id ${id} twice`));
let level = 0;
for (const h of document.querySelectorAll('h1, h2, h3, h4')) {
  const next = Number(h.nodeName[1]);
  if (next > level + 1) found.push(`${h.textContent} skips a level`);
  level = next;
}
for (const t of document.querySelectorAll('table')) {
  if (!t.caption) found.push('a table has no caption');
  if ([...t.querySelectorAll('th')].some((th) => !th.scope)) found.push('a heading of a table has no scope');
}
for (const m of document.querySelectorAll('[role=meter]')) {
  for (const a of ['aria-valuenow', 'aria-valuemin', 'aria-valuemax', 'aria-valuetext']) {
    if (!m.hasAttribute(a)) found.push(`a meter has no ${a}`);
  }
}
return found;
"#;

/// Finds text with less contrast than WCAG's level AA demands, and controls that are too small.
const CONTRAST: &str = r#"
const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const part = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const back = (e) => {
  for (; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = new Set();
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if ((!own && !e.matches('button.copy')) || !e.getClientRects().length || e.closest('.hidden, [disabled], [aria-disabled], .skip')) continue;
  const style = getComputedStyle(e);
  const [a, b] = [luminance(rgb(style.color)), luminance(back(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.add(`${e.className || e.nodeName}: ${ratio.toFixed(2)} (${e.textContent.slice(0, 30)})`);
}
return [...found];
"#;

/// Returns the problems of all views, in the present scheme and size.
fn problems(shown: &Shown) -> Vec<String> {
    let ip = shown.cluster.agents[0].ip();
    let mut found = Vec::new();
    for (view, heading) in [
        ("#/networks".to_owned(), "Networks".to_owned()),
        ("#/networks/dcos".to_owned(), "dcos".to_owned()),
        (
            "#/networks/dcos/change".to_owned(),
            "Change dcos".to_owned(),
        ),
        (
            "#/networks/dcos/remove".to_owned(),
            "Remove dcos".to_owned(),
        ),
        ("#/add".to_owned(), "Add a network".to_owned()),
        ("#/agents".to_owned(), "Agents".to_owned()),
        (format!("#/agents/{ip}"), ip.clone()),
        (
            format!("#/agents/{ip}/delete"),
            format!("Delete agent {ip}"),
        ),
        (format!("#/search/{ip}"), format!("Search for {ip}")),
    ] {
        shown.open(&view, &heading);
        for script in [STRUCTURE, CONTRAST] {
            let list = shown.browser.eval(script);
            let list = list.as_array().cloned().unwrap_or_default();
            found.extend(list.iter().map(|problem| format!("{view}: {problem}")));
        }
    }
    found
}

#[test]
fn structure_and_contrast_suit_everybody() {
    let Some(setup) = without_containers("structure_and_contrast_suit_everybody", 2) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    // An agent that is not connected has another colour.
    shown.cluster.agents[1].kill().unwrap();
    for dark in [false, true] {
        shown.browser.set_dark(dark).unwrap();
        let found = problems(&shown);
        assert!(found.is_empty(), "dark: {dark}: {found:#?}");
        let back = "return getComputedStyle(document.body).backgroundColor";
        let is_white = shown.browser.eval(back) == "rgb(255, 255, 255)";
        assert_eq!(is_white, !dark);
    }
    // On a narrow screen nothing is cut off or needs to be moved sideways.
    shown.browser.resize(360, 740).unwrap();
    assert_eq!(problems(&shown), [""; 0]);
    for view in ["#/networks", "#/agents", "#/networks/dcos", "#/add"] {
        shown.browser.open("about:blank");
        shown.browser.open(&shown.relay.page(view));
        shown
            .browser
            .wait("the view", "return document.querySelector('main h1')");
        let wider = "const d = document.documentElement; return d.scrollWidth - d.clientWidth";
        assert_eq!(shown.browser.eval(wider), json!(0), "{view}");
        let inner = "return [...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth)";
        assert_eq!(shown.browser.eval(inner), json!(false), "{view}");
    }
    shown.browser.resize(WINDOW.0, WINDOW.1).unwrap();
}

/// Updates a table whose rows have another order. Returns the row that has the focus then.
const MOVED_ROWS: &str = "
const { update } = await import(new URL('ui/tables.js', location.href));
const row = (key) => {
  const row = document.createElement('tr');
  row.dataset.key = key;
  row.append(document.createElement('td'));
  row.firstChild.append(Object.assign(document.createElement('button'), { textContent: key }));
  return row;
};
const body = document.createElement('tbody');
document.body.append(body);
update(body, ['a', 'b', 'c'].map(row));
body.children[1].querySelector('button').focus();
update(body, ['c', 'd', 'a', 'b'].map(row));
const keys = [...body.children].map((row) => row.innerText.trim()).join('');
const focused = document.activeElement.textContent;
body.remove();
return `${keys} ${focused}`;
";

/// Presses Tab until the focus is on an element that matches a selector.
#[track_caller]
fn tab_to(shown: &Shown, selector: &str) {
    let script = format!("return document.activeElement.matches({selector:?})");
    for _ in 0..60 {
        if shown.browser.eval(&script) == Value::Bool(true) {
            let outline = "return getComputedStyle(document.activeElement).outlineStyle";
            assert_ne!(shown.browser.eval(outline), "none", "the focus is seen");
            return;
        }
        shown.browser.press(&[keys::TAB]);
    }
    panic!("Tab does not lead to {selector}");
}

#[test]
fn everything_is_done_with_the_keyboard() {
    let Some(setup) = without_containers("everything_is_done_with_the_keyboard", 1) else {
        return;
    };
    let shown = Shown::new(common::start(&setup));
    let ip = shown.cluster.agents[0].ip();
    shown.open("", "Networks");
    // The first stop leads past the header.
    shown.browser.press(&[keys::TAB]);
    assert_eq!(
        shown.browser.eval("return document.activeElement.id"),
        "skip"
    );
    shown.browser.press(&[keys::ENTER]);
    assert_eq!(
        shown.browser.eval("return document.activeElement.id"),
        "main"
    );
    tab_to(&shown, "a[href='#/networks/dcos']");
    shown.browser.press(&[keys::ENTER]);
    shown.wait_heading("dcos");
    let focus = "return document.activeElement.nodeName";
    assert_eq!(
        shown.browser.eval(focus),
        "H1",
        "the new view has the focus"
    );
    let said = "return document.getElementById('live').textContent";
    assert_eq!(shown.browser.eval(said), "dcos");
    // The search is one key away, from anywhere.
    shown.browser.press(&["/"]);
    shown.browser.type_text("9.0.0.9");
    shown.browser.press(&[keys::ENTER]);
    shown.wait_heading("Search for 9.0.0.9");
    shown
        .browser
        .wait_text(&format!("in the subnet 9.0.0.0/24 of the agent {ip}"));
    tab_to(&shown, &format!("main a[href='#/agents/{ip}']"));
    shown.browser.press(&[keys::ENTER]);
    shown.wait_heading(&ip);
    // What is typed into a filter stays while the page is updated.
    shown.open("#/agents", "Agents");
    tab_to(&shown, "#filter-q");
    shown.browser.type_text("10.9");
    shown.browser.wait_text("0 of 1 agents");
    let typed = "return document.activeElement.id + document.activeElement.value";
    assert_eq!(shown.browser.eval(typed), "filter-q10.9");
    assert_eq!(
        shown.browser.eval("return location.hash"),
        "#/agents?q=10.9"
    );
    shown.browser.press(&["\u{e003}"; 4]);
    shown.browser.wait_text("1 of 1 agents");
    let moved = format!("return (async () => {{ {MOVED_ROWS} }})()");
    assert_eq!(shown.browser.eval(&moved), "cdab b");
    // Copying says that it was done.
    tab_to(&shown, "button.copy");
    shown.browser.press(&[keys::SPACE]);
    shown.browser.wait(
        "the sentence",
        &format!("return document.getElementById('live').textContent === 'Copied {ip}'"),
    );
    // A network is added without a mouse.
    shown.open("#/add", "Add a network");
    for (field, text) in [
        ("name", "web"),
        ("subnet", "10.90.0.0/16"),
        ("prefix", "24"),
    ] {
        tab_to(&shown, &format!("[name={field}]"));
        shown.browser.type_text(text);
    }
    shown.browser.press(&[keys::ENTER]);
    shown.wait_heading("web");
    shown.browser.assert_quiet();
}
