//! A real Chromium, driven over W3C WebDriver through `chromedriver`: as much of a client as the page's tests need.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::wait::{block_on, wait_until};

/// For one WebDriver command.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);
/// Name of an element's reference in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window and a profile of its own. Closed when dropped.
pub struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
    // Removed after the browser has closed.
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a headless Chromium whose preferred language is `language`; panics with what to install where it is absent.
    pub fn start(language: &str) -> Self {
        let chromium = find(&["chromium", "chromium-browser", "google-chrome"], "chromium");
        let chromedriver = find(&["chromedriver", "chromium.chromedriver"], "chromium-driver");
        let profile = tempfile::tempdir().expect("a folder for the browser's profile");
        let mut driver = Command::new(&chromedriver)
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", chromedriver.display()));
        let port = announced_port(&mut driver);
        // On the harness's runtime, whose start installs what a client needs.
        let client = block_on(async { reqwest::Client::builder().timeout(COMMAND_TIMEOUT).no_proxy().build() });
        let client = client.expect("an HTTP client is made");
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session"), client, profile };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,900",
        ];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", browser.profile.path().display()));
        args.push(format!("--lang={language}"));
        args.push(format!("--accept-lang={language}"));
        let options = json!({"binary": chromium, "args": args, "prefs": {"intl.accept_languages": language}});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.command("", &json!({"capabilities": {"alwaysMatch": wanted}}));
        let id = session["sessionId"].as_str().expect("a new session has an id");
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Opens `url` and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// Runs `script`, the body of a function with `arguments`, and returns what it returns.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// Waits until `expression` is true in the page; a failure shows `expression`, and what the page looked like as text.
    pub fn wait_for(&self, what: &str, deadline: Duration, expression: &str) {
        let script = format!("return Boolean({expression})");
        wait_until(what, deadline, || match self.run(&script, &[]) {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("not `{expression}`; the page says: {}", self.run("return document.body.innerText", &[]))),
        });
    }

    /// Types `text` into the first element that matches `selector`, key by key; `\u{e007}` is Enter. Into a file input: its path.
    pub fn type_into(&self, selector: &str, text: &str) {
        let id = self.element(selector);
        self.command(&format!("/element/{id}/value"), &json!({"text": text}));
    }

    /// Clicks the first element that matches `selector`, as a person would: it must be in sight and not covered.
    pub fn click(&self, selector: &str) {
        let id = self.element(selector);
        self.command(&format!("/element/{id}/click"), &json!({}));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no element {selector}: {found}")).to_owned()
    }

    /// Shows the page in a window of this size, as a phone does where `mobile`.
    pub fn resize(&self, width: u32, height: u32, mobile: bool) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": if mobile { 2 } else { 1 }, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &params);
    }

    /// Shows the page as for a person who prefers `scheme`: `dark` or `light`.
    pub fn prefer_scheme(&self, scheme: &str) {
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    fn devtools(&self, command: &str, params: &Value) {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": params}));
    }

    /// The window as a PNG file.
    pub fn screenshot(&self) -> Vec<u8> {
        let answer =
            block_on(async { self.client.get(format!("{}/screenshot", self.session)).send().await?.json::<Value>().await });
        let answer = answer.unwrap_or_else(|e| panic!("screenshot: {e}"));
        STANDARD.decode(answer["value"].as_str().expect("a screenshot is a text")).expect("a screenshot is base64")
    }

    /// Errors that the browser's console has shown since the last call: scripts, refused loads, breaches of the page's policy.
    pub fn console_errors(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    /// POST of one command; panics with WebDriver's own error.
    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = block_on(async {
            self.client.post(format!("{}{path}", self.session)).json(body).send().await?.json::<Value>().await
        });
        let mut answer = answer.unwrap_or_else(|e| panic!("WebDriver {path}: {e}"));
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "WebDriver {path} {body}: {}: {}", value["error"], value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the window and its processes; the driver goes in any case.
        let _ = block_on(async { self.client.delete(&self.session).send().await });
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The first of `names` on the path.
fn find(names: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "none of {names:?} is installed; install the Debian package {package} (`make test` does), or put one of them on PATH"
        )
    })
}

/// The port that the driver says it listens on.
fn announced_port(driver: &mut Child) -> u16 {
    let out = driver.stdout.take().expect("the driver's output is piped");
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let digits = line.strip_suffix('.')?.rsplit_once(" on port ")?.1.to_owned();
        digits.parse().ok()
    });
    // Keep reading, or a full pipe would stop the driver.
    std::thread::spawn(move || lines.for_each(drop));
    port.expect("chromedriver announces its port")
}

/// Base64 of a file, for scripts that hand it to the page.
pub fn file_base64(path: &Path) -> String {
    STANDARD.encode(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}
