//! Holding: whether the proxy shows a request's body while it holds the request's head back.
//!
//! It does where the plugin is configured with `allow_on_headers_stop_iteration`. Where it is not (Istio's WasmPlugin and Envoy Gateway's
//! EnvoyExtensionPolicy cannot say so), a request whose head waits shows no body, for ever: it has to be let go first. Nothing says which it is, so it is found out.
//!
//! * A body that comes while the head waits proves that the host shows it. Then heads wait as long as their bodies take.
//! * Until that is known, a head that has waited for two ticks is let go. A body that comes at that very moment was there and not shown; after
//!   three of these, and no proof to the contrary, heads are not held any more. A slow client's body comes later, and tells nothing.
//! * Now and then a head is held all the same, so that no mistake is for good.

use crate::window::{MILLISECOND, Timestamp};

/// How often the timer fires while it is not known, in milliseconds.
pub const TICK: u32 = 20;

/// A body that comes within so many nanoseconds of letting its head go had been there before.
const AT_ONCE: u64 = 2 * MILLISECOND;

/// So many of them are enough.
const ENOUGH: u8 = 3;

/// One in so many heads is held where none should be.
const PROBE: u32 = 1000;

/// What is known of the host.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    belief: Belief,
    /// Heads that wait for their bodies, while it is not known.
    waiting: Vec<Waiting>,
    /// Heads that were let go before their bodies came, and when.
    released: Vec<(u32, Timestamp)>,
    evidence: u8,
    since_probe: u32,
}

/// What is believed of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Belief {
    #[default]
    Unknown,
    Shows,
    Hides,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u32,
    ticked: bool,
}

/// What a body says that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Its head is still here: nothing has gone upstream.
    Held,
    /// Its head has gone upstream.
    Late,
    /// The same, and from now on it is certain that this host shows no body while a head waits.
    Hidden,
}

// === impl Holding ===

impl Holding {
    /// Whether to hold the head of this stream until its body has come.
    pub fn hold(&mut self, id: u32) -> bool {
        match self.belief {
            Belief::Shows => return true,
            Belief::Unknown => {}
            Belief::Hides => {
                self.since_probe = self.since_probe.saturating_add(1);
                if self.since_probe < PROBE {
                    return false;
                }
                self.since_probe = 0;
            }
        }
        self.waiting.push(Waiting { id, ticked: false });
        true
    }

    /// Whether the timer is needed: a head waits that may never see its body.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The first piece of a body came, of a stream whose head was held (`held`) or not.
    pub fn came(&mut self, id: u32, held: bool, now: Timestamp) -> Came {
        if !held {
            return Came::Late;
        }
        if let Some(place) = self.released.iter().position(|(released, _)| *released == id) {
            let (_, at) = self.released.swap_remove(place);
            if self.belief == Belief::Unknown && now.since(at) <= AT_ONCE {
                self.evidence = self.evidence.saturating_add(1);
                if self.evidence >= ENOUGH {
                    self.belief = Belief::Hides;
                    return Came::Hidden;
                }
            }
            return Came::Late;
        }
        if self.belief != Belief::Shows {
            self.belief = Belief::Shows;
            self.waiting.clear();
        }
        Came::Held
    }

    /// The timer fired: these heads are to be let go, before anything else happens to them.
    pub fn tick(&mut self, now: Timestamp) -> Vec<u32> {
        let overdue: Vec<u32> =
            self.waiting.iter().filter(|waiting| waiting.ticked).map(|waiting| waiting.id).collect();
        self.waiting.retain(|waiting| !waiting.ticked);
        for waiting in &mut self.waiting {
            waiting.ticked = true;
        }
        self.released.extend(overdue.iter().map(|id| (*id, now)));
        overdue
    }

    /// Whether this stream's head was let go, and its body has not come yet.
    #[must_use]
    pub fn is_released(&self, id: u32) -> bool {
        self.released.iter().any(|(released, _)| *released == id)
    }

    /// A stream is over.
    pub fn forget(&mut self, id: u32) {
        self.waiting.retain(|waiting| waiting.id != id);
        self.released.retain(|(released, _)| *released != id);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use super::*;

    const MS: u64 = MILLISECOND;

    /// A head that is held until the second tick and then let go.
    fn let_go(holding: &mut Holding, id: u32, now: u64) {
        assert!(holding.hold(id) && holding.is_in_doubt());
        assert!(holding.tick(Timestamp(now - 20 * MS)).is_empty(), "it may have come right before the tick");
        assert!(!holding.is_released(id));
        assert_eq!(holding.tick(Timestamp(now)), [id]);
        assert!(holding.is_released(id));
    }

    #[test]
    fn a_body_that_comes_while_its_head_waits_proves_that_the_host_shows_it() {
        let mut holding = Holding::default();
        assert!(holding.hold(1) && holding.hold(2) && holding.is_in_doubt());
        assert_eq!(holding.came(1, true, Timestamp(0)), Came::Held);
        // From now on a body may take its time.
        assert!(
            !holding.is_in_doubt()
                && holding.tick(Timestamp(100 * MS)).is_empty()
                && holding.tick(Timestamp(200 * MS)).is_empty()
        );
        assert!(holding.hold(3) && !holding.is_in_doubt());
        assert_eq!(holding.came(2, true, Timestamp(900_000 * MS)), Came::Held);
    }

    #[test]
    fn three_bodies_that_were_there_prove_that_the_host_hides_them() {
        let mut holding = Holding::default();
        for id in 1..=3 {
            let_go(&mut holding, id, 100 * MS * u64::from(id));
            let came = holding.came(id, true, Timestamp(100 * MS * u64::from(id) + MS));
            assert_eq!(came, if id < 3 { Came::Late } else { Came::Hidden });
        }
        // Said once; heads are let through, but for a few.
        let held = (4..3004).filter(|id| holding.hold(*id)).count();
        assert_eq!(held, 3);
        assert_eq!(holding.came(4, false, Timestamp(0)), Came::Late);
        // One of these shows that it was a mistake.
        let probe = (4000..).find(|id| holding.hold(*id)).unwrap();
        assert_eq!(holding.came(probe, true, Timestamp(0)), Came::Held);
        assert!(holding.hold(9000) && !holding.is_in_doubt());
    }

    #[test]
    fn slow_clients_prove_nothing() {
        let mut holding = Holding::default();
        for id in 1..=20 {
            let_go(&mut holding, id, 100 * MS * u64::from(id));
            assert_eq!(holding.came(id, true, Timestamp(100 * MS * u64::from(id) + 3 * MS)), Came::Late);
        }
        // One that is slower than the next tick, too: its head was let go.
        let_go(&mut holding, 21, 9000 * MS);
        let_go(&mut holding, 22, 9500 * MS);
        assert!(holding.hold(23));
        assert_eq!(holding.came(23, true, Timestamp(9600 * MS)), Came::Held);
        assert_eq!(holding.came(21, true, Timestamp(9700 * MS)), Came::Late);
        holding.forget(22);
        assert!(holding.released.is_empty() && holding.waiting.is_empty());
    }
}
