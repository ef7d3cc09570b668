//! Accounts: where a caller's record is, and what it is charged under.

use crate::caller::Caller;
use crate::config::Config;
use crate::consumer::{Consumer, Directory};
use crate::exhausted::Exhausted;
use crate::metrics::TokenMeters;
use crate::namespace::{Name, Namespace};
use crate::record::CounterId;
use crate::rule::Charging;
use crate::terms::{Base, Book, Terms};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// One record and what it is charged under.
#[derive(Clone, Debug)]
pub struct Account {
    /// What.
    pub terms: Rc<Terms>,
    pub(crate) place: Place,
    /// What is counted of its responses.
    pub(crate) tokens: Option<Rc<TokenMeters>>,
    /// Whether it has used up a limit: then it is likely to be denied again.
    pub(crate) exhausted: RefCell<Option<Box<Exhausted>>>,
    /// The listed key that it is found by.
    pub(crate) key: Option<OfKey>,
}

// Where a pointer has four bytes: with a hash it is a slot of the memo, and a line of the processor's cache.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Option<Account>>() == 52);

/// What is known of an account that is found by a listed key.
#[derive(Clone, Debug)]
pub(crate) struct OfKey {
    /// Its index.
    pub(crate) index: u32,
    /// Whether its requests are refused: it, or its consumer, is disabled.
    pub(crate) disabled: bool,
    /// So many more of its requests are decided at length, without trying [the short way](crate::limiter::pass) first.
    pub(crate) at_length: Cell<u8>,
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a value of its own: that of the listed consumer with this index.
    Own(usize, Name),
    /// In the table.
    Table {
        /// The hash of who it is; in bytes, since a number's alignment would make every account larger.
        hash: [u8; 8],
        /// Every counter it can ever have.
        counters: Rc<[CounterId]>,
    },
}

/// The accounts of one configuration.
#[derive(Debug)]
pub struct Accounts {
    book: Book,
    /// Of each listed consumer, by index, under no rule, if it was asked for; those of keys are [remembered](crate::memo) elsewhere.
    consumers: Box<[OnceCell<Rc<Account>>]>,
}

// === impl Account ===

impl Account {
    /// Whether it was found by a key that is not disabled.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.disabled)
    }

    /// Who it is of, if it was found by a key that is not disabled.
    #[inline]
    pub(crate) fn caller<'c>(&self, consumers: &'c Directory) -> Option<Caller<'c>> {
        let (Place::Own(index, _), Some(OfKey { index: key, disabled: false, .. })) = (&self.place, &self.key) else {
            return None;
        };
        let (consumer, listed) = consumers.key_of(*index, *key)?;
        Some(Caller::Listed { index: *index, consumer, key: Some(listed) })
    }
}

// === impl Accounts ===

impl Accounts {
    /// None is made yet.
    pub(crate) fn new(config: &Config, book: Book) -> Self {
        Self { book, consumers: config.consumers.consumers().iter().map(|_| OnceCell::new()).collect() }
    }

    /// An account that is found by the listed key of that index, under no rule.
    pub(crate) fn of_key(&self, namespace: &Namespace, consumers: &Directory, key: u32) -> Option<Account> {
        let (index, consumer, listed) = consumers.key(key)?;
        let place = Place::Own(index, namespace.consumer_record(consumer));
        let disabled = consumer.disabled || listed.disabled;
        let key = OfKey { index: key, disabled, at_length: Cell::default() };
        self.account(base(index, consumer), place, &Charging::default(), Some(key))
    }

    /// Where the caller's record is and what it is charged under, and the same for its address.
    pub(crate) fn of(
        &self,
        namespace: &Namespace,
        caller: &Caller<'_>,
        charging: &Charging,
    ) -> Option<(Rc<Account>, Option<Rc<Account>>)> {
        match caller {
            Caller::Listed { index, consumer, .. } => {
                let usual = self.listed(namespace, *index, consumer)?;
                if charging.is_usual() {
                    return Some((usual.clone(), None));
                }
                let account = self.account(base(*index, consumer), usual.place.clone(), charging, None)?;
                Some((Rc::new(account), None))
            }
            Caller::Unlisted { hash, plan, guard, .. } => {
                let place =
                    |hash: u64, plan| Place::Table { hash: hash.to_le_bytes(), counters: self.book.counters(plan) };
                let guard = match *guard {
                    Some((hash, plan)) => {
                        let terms = self.book.terms(Base::Plan(plan), &Charging::default())?;
                        let (place, exhausted) = (place(hash, plan), RefCell::default());
                        let limited = !terms.limits.is_empty();
                        limited.then(|| Rc::new(Account { terms, place, tokens: None, exhausted, key: None }))
                    }
                    None => None,
                };
                Some((Rc::new(self.account(Base::Plan(*plan), place(*hash, *plan), charging, None)?), guard))
            }
        }
    }

    /// The account of a listed consumer, under no rule.
    fn listed(&self, namespace: &Namespace, index: usize, consumer: &Consumer) -> Option<&Rc<Account>> {
        let cell = self.consumers.get(index)?;
        if let Some(known) = cell.get() {
            return Some(known);
        }
        let place = Place::Own(index, namespace.consumer_record(consumer));
        let account = self.account(base(index, consumer), place, &Charging::default(), None)?;
        Some(cell.get_or_init(|| Rc::new(account)))
    }

    fn account(&self, base: Base, place: Place, charging: &Charging, key: Option<OfKey>) -> Option<Account> {
        let terms = self.book.terms(base, charging)?;
        let tokens = self.book.tokens(&terms, charging);
        Some(Account { terms, place, tokens, exhausted: RefCell::default(), key })
    }
}

/// Whose limits a consumer has.
fn base(index: usize, consumer: &Consumer) -> Base {
    if consumer.limits.is_some() { Base::Consumer(index) } else { Base::Plan(consumer.plan) }
}
