//! The search page in a real Chromium, on the demo set behind the real `astromech demo`.
//!
//! `UPDATE_SCREENSHOT=1` takes the picture of README.md anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use astromech_e2e::browser::{Browser, file_base64};
use astromech_e2e::{block_on, bundle, paths, wait_until};
use serde_json::{Value, json};

/// From start to the page: loads the bundle and indexes 2,000 items on two busy cores.
const START_TIMEOUT: Duration = Duration::from_mins(5);
/// From an action on the page to what it shows.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of the log that a failed test prints.
const LOG_TAIL_LINES: usize = 40;
const QUERY: &str = "红色的汽车";
const ENTER: &str = "\u{e007}";
/// The pictures in sight are loaded.
const PICTURES_SHOW: &str = "(images => images.length >= 6 && images.slice(0, 6).every(i => i.complete && i.naturalWidth > 0))\
                             ([...document.querySelectorAll('#image img')])";
const SETTLED: &str = "!document.body.classList.contains('stale')";
#[test]
fn the_page_searches_by_words_and_by_a_picture_in_two_languages_and_on_a_phone() {
    let mut demo = Demo::start();
    let browser = Browser::start("zh-CN");
    browser.open(&demo.url("/"));
    browser.wait_for("the page proposes queries", SHOWN_TIMEOUT, "document.querySelectorAll('#chips button').length >= 6");
    assert_eq!(browser.run("return document.documentElement.lang", &[]), "zh-CN", "the browser's language is the page's");

    typing_a_query_shows_pictures_and_articles(&browser);
    dropping_a_picture_finds_it(&browser);
    choosing_a_picture_finds_it(&browser);
    a_shared_address_and_the_back_button_show_their_search(&browser, &demo);
    the_switch_shows_both_ranks_side_by_side(&browser);
    an_example_ranks_for_a_context(&browser, &demo, "ads", "新款电动汽车上市");
    an_example_ranks_for_a_context(&browser, &demo, "illustrations", "打保龄球");
    the_other_language_is_one_click_away_and_remembered(&browser, &demo);
    a_phone_shows_it_without_scrolling_sideways(&browser, &demo);
    take_screenshot(&browser, &demo);
    // Whatever was clicked: no script failed, nothing was refused by the page's policy, nothing was missing.
    assert_eq!(browser.console_errors(), Vec::<String>::new());

    demo.kill();
    without_the_daemon_the_page_says_so(&browser);
}

fn search_for(browser: &Browser, query: &str) {
    browser.run("document.getElementById('query').value = ''", &[]);
    browser.type_into("#query", &format!("{query}{ENTER}"));
}

fn typing_a_query_shows_pictures_and_articles(browser: &Browser) {
    search_for(browser, QUERY);
    browser.wait_for("pictures show", SHOWN_TIMEOUT, PICTURES_SHOW);
    browser.wait_for("articles show", SHOWN_TIMEOUT, "document.querySelectorAll('#article li h3').length > 0");
    let shared = format!("new URLSearchParams(location.search).get('q') === {}", json!(QUERY));
    browser.wait_for("the address holds the query", SHOWN_TIMEOUT, &shared);
    browser.wait_for("scores and times show", SHOWN_TIMEOUT, "/ ms/.test(document.getElementById('status').textContent)");
    let scores = browser.run("return [...document.querySelectorAll('#image .score')].map(s => Number(s.textContent))", &[]);
    let scores: Vec<f64> = scores.as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
    assert!(scores.len() >= 6 && scores.windows(2).all(|pair| pair[0] >= pair[1]), "best first: {scores:?}");
}

/// The first hit is the picture itself, at a cosine of one but for int8's rounding.
fn wait_found(browser: &Browser, id: &str) {
    let first = format!("document.querySelector('#image img')?.src.endsWith({})", json!(format!("/v1/media/image/{id}")));
    browser.wait_for("the dropped picture is the first hit", SHOWN_TIMEOUT, &format!("{first} && {SETTLED}"));
    let score = browser.run("return document.querySelector('#image .score').textContent", &[]);
    // In int8 a vector depends a little on its batch mates, and the picture was indexed in a full batch.
    let cosine: f64 = score.as_str().and_then(|score| score.parse().ok()).expect("a score");
    assert!(cosine >= 0.998, "the picture itself scores {score}");
    browser.wait_for("the query's picture shows", SHOWN_TIMEOUT, "document.getElementById('chosen-picture').naturalWidth > 0");
}

fn dropping_a_picture_finds_it(browser: &Browser) {
    let (id, file) = a_picture(10);
    let script = "
        const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], 'dropped.jpg', { type: 'image/jpeg' }));
        const event = type => new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event('dragenter'));
        const invited = !document.getElementById('drop').hidden;
        document.body.dispatchEvent(event('dragover'));
        document.body.dispatchEvent(event('drop'));
        return [invited, document.getElementById('drop').hidden];";
    let seen = browser.run(script, &[json!(file_base64(&file))]);
    assert_eq!(seen, json!([true, true]), "the page invites to drop, and stops when dropped");
    wait_found(browser, &id);
    assert_eq!(browser.run("return [location.search, document.getElementById('query').value]", &[]), json!(["", ""]));
}

fn choosing_a_picture_finds_it(browser: &Browser) {
    let (id, file) = a_picture(200);
    browser.type_into("#file", &file.to_string_lossy());
    wait_found(browser, &id);
}

fn a_shared_address_and_the_back_button_show_their_search(browser: &Browser, demo: &Demo) {
    browser.open(&demo.url("/?q=%E9%9B%A8%E4%BC%9E"));
    browser.wait_for(
        "the shared search shows",
        SHOWN_TIMEOUT,
        &format!("{PICTURES_SHOW} && document.getElementById('query').value === '雨伞'"),
    );
    let first = browser.run("return document.querySelector('#image img').src", &[]);
    search_for(browser, QUERY);
    let changed = format!("document.querySelector('#image img').src !== {first} && {SETTLED}");
    browser.wait_for("the next search shows", SHOWN_TIMEOUT, &changed);
    browser.run("history.back()", &[]);
    let back =
        format!("document.getElementById('query').value === '雨伞' && document.querySelector('#image img').src === {first}");
    browser.wait_for("the search before shows again", SHOWN_TIMEOUT, &back);
}

/// Rank by the single tower, rank by the dual towers and score of each picture in sight, top to bottom.
fn ranked(browser: &Browser) -> Vec<(u64, u64, f64)> {
    let script = "return [...document.querySelectorAll('#image .tile')].map(tile => [
        Number(tile.querySelector('.ranks').dataset.rank), Number(tile.querySelector('.ranks').dataset.dual),
        Number(tile.querySelector('.score').textContent), tile.querySelector('.ranks').textContent])";
    let tiles = browser.run(script, &[]);
    let tile = |tile: &Value| {
        let (now, was) = (tile[0].as_u64().expect("a rank"), tile[1].as_u64().expect("a rank of the dual towers"));
        assert_eq!(tile[3], json!(format!("{now} ← {was}")), "both ranks are in sight, side by side");
        (now, was, tile[2].as_f64().expect("a score"))
    };
    tiles.as_array().expect("a list").iter().map(tile).collect()
}

/// The single tower's order is what is shown, and the dual towers' ranks are those of other places.
fn assert_ranked(ranked: &[(u64, u64, f64)]) {
    assert!(ranked.len() >= 6, "{ranked:?}");
    assert!(ranked.iter().zip(1..).all(|((now, ..), place)| *now == place), "{ranked:?}");
    assert!(ranked.windows(2).all(|pair| pair[0].2 >= pair[1].2), "best first: {ranked:?}");
    assert!(ranked.iter().any(|(now, was, _)| now != was), "the single tower has an order of its own: {ranked:?}");
}

fn the_switch_shows_both_ranks_side_by_side(browser: &Browser) {
    search_for(browser, QUERY);
    browser.wait_for(
        "dual towers alone show no ranks",
        SHOWN_TIMEOUT,
        &format!("!document.querySelector('.ranks') && {SETTLED}"),
    );
    browser.click("#switch");
    let both = "document.querySelectorAll('#image .ranks').length >= 6";
    browser.wait_for("both ranks show", SHOWN_TIMEOUT, &format!("{both} && {PICTURES_SHOW} && {SETTLED}"));
    assert_ranked(&ranked(browser));
    let timing = "document.getElementById('status').textContent.includes('精排')";
    browser.wait_for("the time of re-ranking shows", SHOWN_TIMEOUT, timing);
    browser.click("#switch");
    browser.wait_for("the ranks go with the switch", SHOWN_TIMEOUT, &format!("!document.querySelector('.ranks') && {SETTLED}"));
}

fn an_example_ranks_for_a_context(browser: &Browser, demo: &Demo, mode: &str, words: &str) {
    browser.open(&demo.url("/"));
    let button = format!("#match-{mode}");
    browser.wait_for("the page proposes the example", SHOWN_TIMEOUT, &format!("document.querySelector({})", json!(button)));
    browser.click(&button);
    let context = "document.getElementById('context')";
    let told = format!(
        "!{context}.hidden && {context}.dataset.mode === {} && {context}.textContent.includes({})",
        json!(mode),
        json!(words)
    );
    browser.wait_for("the example's context shows", SHOWN_TIMEOUT, &told);
    browser.wait_for("its pictures show", SHOWN_TIMEOUT, &format!("{PICTURES_SHOW} && {SETTLED}"));
    assert_ranked(&ranked(browser));
    let bids = browser.run(
        "return [...document.querySelectorAll('#image .name')].filter(name => /^¥[123] · /.test(name.textContent)).length",
        &[],
    );
    assert_eq!(bids.as_u64().is_some_and(|bids| bids > 0), mode == "ads", "advertisements have bids: {bids}");
    // The address holds it, so that it can be shared.
    browser.open(&demo.url(&format!("/?match={mode}")));
    browser.wait_for("the shared example shows", SHOWN_TIMEOUT, &format!("{told} && {PICTURES_SHOW} && {SETTLED}"));
}

fn the_other_language_is_one_click_away_and_remembered(browser: &Browser, demo: &Demo) {
    let go = "document.querySelector('.go').textContent";
    search_for(browser, QUERY);
    browser.wait_for("Chinese at first", SHOWN_TIMEOUT, &format!("{go} === '搜索'"));
    browser.click("#language");
    browser.wait_for(
        "English after a click",
        SHOWN_TIMEOUT,
        &format!("{go} === 'Search' && document.documentElement.lang === 'en'"),
    );
    browser.wait_for(
        "the results are told in English",
        SHOWN_TIMEOUT,
        "document.getElementById('status').textContent.includes('pictures')",
    );
    browser.open(&demo.url("/"));
    browser.wait_for("English is remembered", SHOWN_TIMEOUT, &format!("{go} === 'Search'"));
    browser.click("#language");
    browser.wait_for("Chinese again", SHOWN_TIMEOUT, &format!("{go} === '搜索'"));
}

fn a_phone_shows_it_without_scrolling_sideways(browser: &Browser, demo: &Demo) {
    for (width, height) in [(390, 844), (320, 568)] {
        browser.resize(width, height, true);
        browser.open(&demo.url("/"));
        browser.wait_for("the page proposes queries", SHOWN_TIMEOUT, "document.querySelectorAll('#chips button').length >= 6");
        // Against the asked width: a phone's window grows with what does not fit.
        let fits = format!("document.documentElement.scrollWidth <= {width} && window.innerWidth <= {width}");
        browser.wait_for(&format!("the start fits into {width} pixels"), SHOWN_TIMEOUT, &fits);
        browser.click("#chips button");
        browser.wait_for("pictures show", SHOWN_TIMEOUT, PICTURES_SHOW);
        browser.wait_for(&format!("the results fit into {width} pixels"), SHOWN_TIMEOUT, &fits);
    }
    browser.resize(1280, 900, false);
}

fn take_screenshot(browser: &Browser, demo: &Demo) {
    if std::env::var_os("UPDATE_SCREENSHOT").is_none() {
        return;
    }
    browser.resize(1280, 900, false);
    browser.prefer_scheme("light");
    browser.open(&demo.url("/"));
    search_for(browser, QUERY);
    browser.wait_for("pictures show", SHOWN_TIMEOUT, PICTURES_SHOW);
    browser.wait_for(
        "they have faded in",
        SHOWN_TIMEOUT,
        "getComputedStyle(document.querySelectorAll('#image img')[5]).opacity === '1'",
    );
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)", &[]);
    let file = paths::repository().join("docs/page.png");
    std::fs::write(&file, browser.screenshot()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

fn without_the_daemon_the_page_says_so(browser: &Browser) {
    search_for(browser, "太阳");
    let told = "!document.getElementById('alert').hidden && document.getElementById('alert-title').textContent === '连不上服务'";
    browser.wait_for("the page says that nobody answers", SHOWN_TIMEOUT, told);
    browser.wait_for("and offers to try again", SHOWN_TIMEOUT, "!document.getElementById('retry').hidden");
}

/// Folder of the demo set.
fn set() -> PathBuf {
    paths::repository().join("configs/demo/set")
}

/// Id and file of the set's picture number `index`.
fn a_picture(index: usize) -> (String, PathBuf) {
    let text = std::fs::read_to_string(set().join("messages.jsonl")).expect("the demo set is in the repository");
    let messages = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let message = messages.filter(|message| message["kind"] == "image").nth(index).expect("the set has as many pictures");
    let url = message["image"]["url"].as_str().expect("a picture of the set has an address");
    let file = set().join(url.strip_prefix("file:").expect("it is a file"));
    (message["id"].as_str().expect("an item has an id").to_owned(), file)
}

/// A running `astromech demo`. Killed when dropped; a failing test prints the end of its log.
struct Demo {
    child: Child,
    port: u16,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Demo {
    /// Starts it on an empty index and waits until it serves the page.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the demo");
        let (file, log, port) = (folder.path().join("demo.toml"), folder.path().join("log"), free_port());
        std::fs::write(&file, configuration(folder.path(), port)).expect("the configuration is written");
        let out = std::fs::File::create(&log).expect("the log is created");
        let error = out.try_clone().expect("a second handle of the log");
        let mut command = Command::new(paths::daemon_binary());
        command.arg("demo").arg("--config").arg(&file).stdin(Stdio::null()).stdout(out).stderr(error).env("CI", "true");
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", paths::daemon_binary().display()));
        let mut demo = Self { child, port, log, _folder: folder };
        let url = demo.url("/readyz");
        wait_until("the demo serves its page", START_TIMEOUT, || {
            if let Some(status) = demo.child.try_wait().expect("a child can be waited for") {
                panic!("the demo ended with {status}");
            }
            // Listening comes before indexing, answering after it: a request waits in between, so each look gets little time.
            let answer = block_on(async {
                let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy().build()?;
                client.get(&url).send().await
            });
            let answer = answer.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        });
        demo
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
            paths::message(&format!("--- the demo's log ends:\n{tail}\n---"));
        }
    }
}

fn configuration(folder: &Path, port: u16) -> String {
    // JSON's strings are TOML's too.
    let quote = |path: &Path| json!(path).to_string();
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "[bundle]\npath = {}\n[index]\nengine = \"embedded\"\n[index.embedded]\npath = {}\n[media]\nfile_roots = [{}]\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\n",
        quote(&bundle::path()),
        quote(&folder.join("index")),
        quote(&set()),
    );
    text
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("a bound socket has an address").port()
}
