//! A real Envoy for one test: started on free ports, stopped and forgotten when the test lets go of it.
//!
//! ```text
//! Envoy::with(config).concurrency(4).start() ─▶ Envoy ─▶ addr(), stats, log, reconfigure(config), workers
//!                                  .try_start() ─▶ Exit (status, log) when it does not come up
//!                                  .validate()  ─▶ Exit of "envoy --mode validate"
//! ```
//!
//! A machine without Envoy fails these tests: a skipped end-to-end test looks like a passed one.

mod bootstrap;
mod ecds;
mod process;
mod stats;
mod workers;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use bootstrap::{Builder, Form, Policy};
pub use ecds::Refused;

use super::http::{Connection, Request, TIMEOUT};

/// The longest that starting, validating and reconfiguring may take; on a loaded machine with several Envoys each is
/// slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many lines of Envoy's log a failing test shows.
const LOG_TAIL: usize = 60;

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    child: Mutex<Child>,
    pid: u32,
    dir: Dir,
    builder: Builder,
    admin: SocketAddr,
    addr: SocketAddr,
    /// The number of the last configuration it was given; held while one is being given.
    version: Mutex<u32>,
}

/// How an Envoy that did not stay ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it said.
    pub log: String,
}

impl Envoy {
    /// An Envoy with the filter under test, configured by this text: YAML in block or flow style, or JSON.
    pub fn with(config: &str) -> Builder {
        Builder::new(config)
    }

    /// An Envoy without the filter: what the filter's cost and behaviour are compared with.
    pub fn bare() -> Builder {
        Builder::bare()
    }

    /// An Envoy with this bootstrap text as it stands. It needs an admin address and a listener, on port 0 to be given
    /// free ones.
    pub fn with_bootstrap(text: &str) -> Builder {
        Builder::bare().bootstrap(text)
    }

    /// The listener's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new connection to the listener.
    pub fn connect(&self) -> Connection {
        Connection::open(self.addr)
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> super::http::Response {
        self.connect().get(path, headers)
    }

    /// What the admin interface answers to a GET.
    pub fn admin_get(&self, path: &str) -> String {
        ask(self.admin, "GET", path)
    }

    /// What the admin interface answers to a POST.
    pub fn admin_post(&self, path: &str) -> String {
        ask(self.admin, "POST", path)
    }

    /// All that Envoy has said so far.
    pub fn log(&self) -> String {
        self.dir.log()
    }

    /// Waits until Envoy's log contains this text; fails the test when it does not come.
    pub fn wait_for_log(&self, text: &str) {
        wait(TIMEOUT, &format!("{text:?} in Envoy's log"), || self.log().contains(text).then_some(()));
    }

    /// The first `lines` lines of the access log, once they are written; needs [`Builder::access_log`].
    pub fn access_log(&self, lines: usize) -> Vec<String> {
        wait(TIMEOUT, &format!("{lines} lines in the access log"), || {
            // What clients sent may be in it, and that need not be text.
            let log = String::from_utf8_lossy(&std::fs::read(self.dir.file("access.log")).ok()?).into_owned();
            let complete: Vec<String> =
                log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect();
            (complete.len() >= lines).then(|| complete[..lines].to_vec())
        })
    }

    /// The folder with this Envoy's files, gone when it is dropped.
    pub fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().expect("nobody panics with it").try_wait().expect("a child can be waited for")
    }
}

impl Builder {
    /// Starts it and waits until it serves; fails the test when it does not come up.
    pub fn start(self) -> Envoy {
        self.try_start().unwrap_or_else(|exit| panic!("Envoy ended at start: {}\n{}", exit.status, tail(&exit.log)))
    }

    /// Starts it and waits until a worker took a connection: ports accept only once every worker's VM is configured.
    ///
    /// # Errors
    ///
    /// How it ended, when it did not come up; what a bad configuration leads to.
    pub fn try_start(self) -> Result<Envoy, Exit> {
        let mut envoy = self.spawn()?;
        envoy.serve()?;
        Ok(envoy)
    }

    /// Starts it and waits for its admin interface alone, where the listener waits for something else:
    /// [`serve`](Envoy::serve) waits for that.
    ///
    /// # Errors
    ///
    /// How it ended.
    pub fn spawn(self) -> Result<Envoy, Exit> {
        let (dir, mut command) = self.prepare();
        let child = command.arg("--admin-address-path").arg(dir.file("admin")).spawn().expect("Envoy can be started");
        let pid = child.id();
        let (addr, unknown) = (SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([0, 0, 0, 0], 0)));
        // Owned from here on, so that it is killed whatever happens below.
        let mut envoy =
            Envoy { child: Mutex::new(child), pid, dir, builder: self, admin: unknown, addr, version: Mutex::new(0) };
        envoy.wait_until("have an admin interface", Envoy::has_admin)?;
        Ok(envoy)
    }

    /// Lets Envoy check the configuration without serving (`--mode validate`, which runs the filter's configuration
    /// too).
    pub fn validate(self) -> Exit {
        let (dir, mut command) = self.prepare();
        let child = command.args(["--mode", "validate"]).spawn().expect("Envoy can be started");
        let mut child = Killed(child);
        let status = wait(PATIENCE, "Envoy's verdict", || child.0.try_wait().expect("a child can be waited for"));
        Exit { status, log: dir.log() }
    }

    fn prepare(&self) -> (Dir, Command) {
        let dir = Dir::new();
        std::fs::write(dir.file("envoy.yaml"), self.bootstrap_text(&dir.0)).expect("the folder is writable");
        if self.is_ecds() {
            ecds::write(&dir.0, &self.ecds_text(0));
        }
        // Envoy's own log file is written late and lost in a crash; standard error is not.
        let log = File::create(dir.file("envoy.log")).expect("the folder is writable");
        let mut command = self.command();
        command.arg("-c").arg(dir.file("envoy.yaml")).arg("--disable-hot-restart").args(self.arguments());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
        (dir, command)
    }
}

impl Envoy {
    /// Waits until it serves; for one that was [spawned](Builder::spawn).
    ///
    /// # Errors
    ///
    /// How it ended.
    pub fn serve(&mut self) -> Result<(), Exit> {
        self.wait_until("serve", Self::is_serving)
    }

    fn wait_until(&mut self, what: &str, is: fn(&mut Self) -> bool) -> Result<(), Exit> {
        let patience = self.builder.patience();
        let deadline = Instant::now() + patience;
        while !is(self) {
            if let Some(status) = self.exited() {
                return Err(Exit { status, log: self.log() });
            }
            assert!(Instant::now() < deadline, "Envoy did not {what} within {patience:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether its admin interface answers by now; learns the address on the way.
    fn has_admin(&mut self) -> bool {
        let Some(admin) =
            std::fs::read_to_string(self.dir.file("admin")).ok().and_then(|text| text.trim().parse().ok())
        else {
            return false;
        };
        self.admin = admin;
        try_ask(admin, "GET", "/server_info").is_ok()
    }

    /// Whether it serves by now; learns the address on the way.
    fn is_serving(&mut self) -> bool {
        let Some(addr) = listener(self.admin) else { return false };
        self.addr = addr;
        // A connection that is only queued in the kernel proves nothing; one that a worker counted does.
        Connection::try_open(addr).is_ok()
            && try_ask(self.admin, "GET", "/stats?filter=worker_")
                .is_ok_and(|stats| workers::count(&stats).iter().any(|&count| count > 0))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Envoy's log, the end of it\n{}\n---", tail(&self.log()));
        }
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A child process that does not outlive this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder for one Envoy, removed with it.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("allowance-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.file("envoy.log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A setting that the tests cannot do without.
fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run \"make test\""))
}

/// The address of the first listener, once Envoy has one.
fn listener(admin: SocketAddr) -> Option<SocketAddr> {
    let listeners: serde_json::Value =
        serde_json::from_str(&try_ask(admin, "GET", "/listeners?format=json").ok()?).ok()?;
    let address = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
    let ip = address.get("address")?.as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(address.get("port_value")?.as_u64()?).ok()?))
}

fn ask(admin: SocketAddr, method: &str, path: &str) -> String {
    try_ask(admin, method, path).unwrap_or_else(|error| panic!("Envoy's admin interface does not answer: {error}"))
}

/// Envoy may be about to end, and then its answer may end in the middle.
fn try_ask(admin: SocketAddr, method: &str, path: &str) -> io::Result<String> {
    let mut connection = Connection::try_open(admin)?;
    connection.try_send(&Request::new(method, path).to_bytes())?;
    Ok(connection.try_read_response(false)?.text())
}

/// Asks again until there is an answer; fails the test when none comes in time.
fn wait<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}
