//! The filter comes, changes and goes by discovery, while clients are served: none of their requests fails.

use crate::files::{bootstrap, envoys, filter_comes_later, module, scratch, text, trial};
use crate::support::envoy::{Envoy, PATIENCE};
use crate::support::http::{Request, Response};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Puts a resource in place as the README page does: Envoy looks when a file is moved there.
fn put(folder: &Path, version: usize, resource: &str) {
    let draft = folder.join("draft.yaml");
    let version = format!("version_info: \"{version}\"");
    let resource = resource.replace("version_info: \"0\"", &version).replace("version_info: \"1\"", &version);
    fs::write(&draft, resource.replace("target/allowance.wasm", module().to_str().unwrap())).unwrap();
    fs::rename(draft, folder.join("allowance.yaml")).unwrap();
}

/// Clients that ask without a pause until they are told to end; a request that gets no answer fails the test. Each opens a connection anew
/// now and then, as clients do: a connection from before a listener changed stays with the old one until that is drained.
pub(crate) struct Traffic {
    ended: AtomicBool,
    /// How many answers each client got.
    answered: Vec<AtomicUsize>,
}

/// After so many requests a connection is given up.
const REQUESTS: usize = 10;

impl Traffic {
    /// All responses that came while `change` was going on.
    pub(crate) fn during(envoy: &Envoy, clients: usize, change: impl FnOnce(&Traffic)) -> Vec<Response> {
        let traffic =
            Traffic { ended: AtomicBool::new(false), answered: (0..clients).map(|_| AtomicUsize::new(0)).collect() };
        std::thread::scope(|scope| {
            let traffic = &traffic;
            let clients: Vec<_> =
                (0..clients).map(|client| scope.spawn(move || traffic.client(envoy, client))).collect();
            // Also when it fails: nobody waits for ever.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(traffic)));
            traffic.ended.store(true, Ordering::SeqCst);
            let responses =
                clients.into_iter().flat_map(|client| client.join().expect("every request is answered")).collect();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            responses
        })
    }

    fn client(&self, envoy: &Envoy, client: usize) -> Vec<Response> {
        let mut responses = Vec::new();
        let key = format!("client-{client}");
        loop {
            let mut connection = envoy.connect();
            for _ in 0..REQUESTS {
                if self.ended.load(Ordering::SeqCst) {
                    return responses;
                }
                let response = connection.exchange(&Request::get("/").header("x-api-key", &key));
                self.answered[client].fetch_add(1, Ordering::SeqCst);
                let closing = response.header("connection").as_deref() == Some("close");
                responses.push(response);
                if closing {
                    break;
                }
            }
        }
    }

    /// Waits until every client has got so many more answers; twice [`REQUESTS`] are at least one on a new connection.
    pub(crate) fn go_on_for(&self, answers: usize) {
        let deadline = Instant::now() + PATIENCE;
        let now = || self.answered.iter().map(|answered| answered.load(Ordering::SeqCst));
        let start: Vec<usize> = now().collect();
        while now().zip(&start).any(|(now, start)| now < start + answers) {
            assert!(Instant::now() < deadline, "the clients are stuck");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Waits until a request with this key is answered so.
pub(crate) fn wait_for(envoy: &Envoy, key: &str, what: &str, mut is: impl FnMut(&Response) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is(&envoy.get("/", &[("x-api-key", key)])) {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// How many were answered so.
pub(crate) fn count(responses: &[Response], is: impl Fn(&Response) -> bool) -> usize {
    responses.iter().filter(|response| is(response)).count()
}

const CLIENTS: usize = 4;

#[test]
fn the_filter_comes_changes_and_goes_under_traffic_without_a_failed_request() {
    let (with, without) = (text("attach/ecds-with.yaml"), text("attach/ecds-without.yaml"));
    let refused = |response: &Response| ![200, 429].contains(&response.status);
    for program in envoys() {
        let folder = scratch("ecds");
        put(&folder, 0, &without);
        let replaced = [("target/ecds/allowance.yaml", folder.join("allowance.yaml"))];
        let replaced = [(replaced[0].0, replaced[0].1.to_str().unwrap())];
        let envoy = filter_comes_later(bootstrap("attach/ecds.yaml", &replaced), &program).start();
        let counted = |response: &Response| response.header("ratelimit-policy").is_some();

        let responses = Traffic::during(&envoy, CLIENTS, |traffic| {
            traffic.go_on_for(25);
            // It comes.
            put(&folder, 1, &with);
            wait_for(&envoy, "probe", "the filter is there", |response| response.status == 429);
            traffic.go_on_for(25);
            // It changes: one more for everybody, and what was used stays used.
            let quota = format!("requests: {}, per: 1h", trial());
            let more = with.replace(&quota, &format!("requests: {}, per: 1h", trial() + 1));
            assert_ne!(more, with);
            put(&folder, 2, &more);
            let policy = format!(";q={};", trial() + 1);
            wait_for(&envoy, "probe", "it changed", |r| {
                r.header("ratelimit-policy").is_some_and(|field| field.contains(&policy))
            });
            traffic.go_on_for(25);
            // A mistake is refused, and what was there goes on.
            put(&folder, 3, &with.replace("per: day", "per: nonsense"));
            envoy.wait_for_log("configuration refused: plans.pro.limits[1].per");
            traffic.go_on_for(25);
            // It goes.
            put(&folder, 4, &without);
            wait_for(&envoy, "probe", "the filter is gone", |response| !counted(response));
            traffic.go_on_for(25);
        });
        assert_eq!(responses.iter().find(|response| refused(response)), None);
        // Every client had its quota, then one more, and not another.
        let admitted = count(&responses, |response| counted(response) && response.status == 200);
        assert_eq!(admitted, CLIENTS * (trial() + 1), "of {}", responses.len());
        assert!(count(&responses, |response| response.status == 429) >= 100);
        assert!(count(&responses, |response| !counted(response)) >= 100);

        // And comes back.
        put(&folder, 5, &with);
        wait_for(&envoy, "later", "the filter is there again", counted);
        fs::remove_dir_all(folder).unwrap();
    }
}
