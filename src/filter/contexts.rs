//! Contexts: the configurations and the streams that one worker has in hand.
//!
//! A proxy says that a context is over by entering the module once more for each request, which takes longer than deciding it does. So the
//! module does not ask to be told (it has no `proxy_on_delete`): most requests leave nothing behind, and what others leave is taken out when
//! they go on, or found to be over now and then, by asking the proxy which contexts it still has.

use std::rc::Rc;

/// So many streams may be over and not found to be. From there on as many as are under way.
const SOME: usize = 64;

/// After so many streams configurations are looked through, where there are several.
const OFTEN: u32 = 256;

/// What a worker knows: `R` of each configuration, `S` of each stream that has left something behind. Identifiers are the proxy's; they only
/// ever grow.
#[derive(Debug)]
pub(super) struct Contexts<R, S> {
    roots: Vec<(u32, Rc<R>)>,
    /// Streams that have a context and no head yet, each with its root. In Envoy the head comes at once.
    created: Vec<(u32, u32)>,
    streams: Vec<(u32, S)>,
    /// With how many streams they are looked through next.
    look_at: usize,
    /// Streams until configurations are.
    look_in: u32,
}

impl<R, S> Contexts<R, S> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { roots: Vec::new(), created: Vec::new(), streams: Vec::new(), look_at: SOME, look_in: OFTEN }
    }

    /// A configuration comes.
    pub(super) fn add_root(&mut self, id: u32, root: R) {
        self.roots.push((id, Rc::new(root)));
    }

    /// The configuration of that context. Nearly always the last.
    #[inline]
    pub(super) fn root(&self, id: u32) -> Option<Rc<R>> {
        match self.roots.last() {
            Some((last, root)) if *last == id => Some(root.clone()),
            _ => self.root_before(id),
        }
    }

    #[inline(never)]
    fn root_before(&self, id: u32) -> Option<Rc<R>> {
        self.roots.iter().find(|(known, _)| *known == id).map(|(_, root)| root.clone())
    }

    /// A stream comes, under a configuration; whether it is time to [look](Self::over) for what is over.
    #[inline]
    pub(super) fn create(&mut self, id: u32, root: u32) -> bool {
        self.created.push((id, root));
        self.look_in = self.look_in.saturating_sub(1);
        self.created.len() > SOME || (self.look_in == 0 && self.roots.len() > 1)
    }

    /// Forgets streams that are over, if there are some, and takes out such configurations.
    pub(super) fn over(&mut self, lives: impl Fn(u32) -> bool) -> Vec<Rc<R>> {
        self.look_in = OFTEN;
        if self.created.len() > SOME {
            self.created.retain(|(id, _)| lives(*id));
        }
        self.roots_over(lives)
    }

    /// Takes out the configurations that are over.
    pub(super) fn roots_over(&mut self, lives: impl Fn(u32) -> bool) -> Vec<Rc<R>> {
        // The only one is: the proxy would not have entered this module otherwise.
        if self.roots.len() < 2 {
            return Vec::new();
        }
        self.roots.extract_if(.., |(id, _)| !lives(*id)).map(|(_, root)| root).collect()
    }

    /// The head of a stream comes: its configuration. Once for each stream, nearly always of the one that came last.
    #[inline]
    pub(super) fn begin(&mut self, id: u32) -> Option<Rc<R>> {
        let (_, root) = match self.created.pop_if(|(last, _)| *last == id) {
            Some(created) => created,
            None => self.created_before(id)?,
        };
        self.root(root)
    }

    #[inline(never)]
    fn created_before(&mut self, id: u32) -> Option<(u32, u32)> {
        let at = self.created.iter().position(|(known, _)| *known == id)?;
        Some(self.created.swap_remove(at))
    }

    /// Keeps what a stream leaves behind.
    pub(super) fn put(&mut self, id: u32, stream: S, lives: impl Fn(u32) -> bool) {
        if self.streams.len() >= self.look_at {
            self.streams.retain(|(id, _)| lives(*id));
            self.look_at = self.streams.len().saturating_mul(2).max(SOME);
        }
        // Nearly always the last.
        let at = self.streams.partition_point(|(known, _)| *known < id);
        self.streams.insert(at, (id, stream));
    }

    /// Takes it out.
    pub(super) fn take(&mut self, id: u32) -> Option<S> {
        let at = self.streams.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        Some(self.streams.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: fn(u32) -> bool = |_| true;

    fn with_roots(ids: &[u32]) -> Contexts<u32, u32> {
        let mut contexts = Contexts::new();
        ids.iter().for_each(|id| contexts.add_root(*id, *id));
        contexts
    }

    #[test]
    fn streams_have_the_configuration_that_they_were_created_under() {
        let mut contexts = with_roots(&[1, 5]);
        for (id, root) in [(6, 5), (7, 1), (8, 5)] {
            assert!(!contexts.create(id, root));
        }
        assert_eq!(
            [7, 8, 6, 7, 9].map(|id| contexts.begin(id).map(|root| *root)),
            [Some(1), Some(5), Some(5), None, None]
        );
    }

    #[test]
    fn what_is_left_behind_is_there_until_it_is_taken() {
        let mut contexts = with_roots(&[1]);
        for id in [3, 9, 4] {
            contexts.put(id, id * 10, ALL);
        }
        assert_eq!([4, 3, 3, 8, 9].map(|id| contexts.take(id)), [Some(40), Some(30), None, None, Some(90)]);
    }

    #[test]
    fn streams_that_are_over_go_before_they_are_more_than_those_under_way() {
        let mut contexts = with_roots(&[1]);
        // Every tenth stays.
        let lives = |id: u32| id.is_multiple_of(10);
        let mut most_over = 0;
        for id in 2..100_000 {
            if contexts.create(id, 1) {
                contexts.over(lives);
            }
            contexts.put(id, id, lives);
            let under_way = contexts.streams.iter().filter(|(id, _)| lives(*id)).count();
            most_over = most_over.max((contexts.streams.len() - under_way).saturating_sub(under_way));
        }
        assert!(most_over <= SOME, "{most_over}");
        assert_eq!((10..100_000).step_by(10).filter_map(|id| contexts.take(id)).count(), 9_999);
        assert!(contexts.created.len() <= SOME + 10_000);
    }

    #[test]
    fn a_configuration_that_is_over_goes_and_the_only_one_never_does() {
        let mut contexts = with_roots(&[1, 2]);
        let lives = |id: u32| id != 1;
        let looks = (3..).take_while(|id| !(contexts.create(*id, 2) || contexts.begin(*id).is_none())).count();
        assert_eq!(looks + 1, OFTEN as usize, "not for every stream");
        assert_eq!(contexts.over(lives).iter().map(|root| **root).collect::<Vec<_>>(), [1]);
        let looks = (1000..).take_while(|id| !contexts.create(*id, 2)).count();
        assert_eq!(looks, SOME - 1, "so many have no head");
        assert!(contexts.root(1).is_none() && contexts.root(2).is_some());
        assert!(contexts.roots_over(|_| false).is_empty());
        assert!(contexts.root(2).is_some());
    }
}
