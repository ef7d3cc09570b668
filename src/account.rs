//! Accounts: where a caller's record is, and what it is charged under.

use crate::caller::Caller;
use crate::config::Config;
use crate::consumer::Consumer;
use crate::exhausted::Exhausted;
use crate::metrics::TokenMeters;
use crate::namespace::Namespace;
use crate::record::CounterId;
use crate::rule::Charging;
use crate::terms::{Base, Book, Terms};
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// One record and what it is charged under.
#[derive(Debug)]
pub struct Account {
    /// What.
    pub terms: Rc<Terms>,
    pub(crate) place: Place,
    /// What is counted of its responses.
    pub(crate) tokens: Option<Rc<TokenMeters>>,
    /// Whether it has used up a limit: then it is likely to be denied again.
    pub(crate) exhausted: RefCell<Option<Box<Exhausted>>>,
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a value of its own: that of the listed consumer with this index.
    Own(usize, Rc<[u8]>),
    /// In the table.
    Table {
        /// The hash of who it is.
        hash: u64,
        /// Every counter it can ever have.
        counters: Rc<[CounterId]>,
    },
}

/// The accounts of one configuration.
#[derive(Debug)]
pub struct Accounts {
    book: Book,
    /// Of each listed consumer, by index, under no rule: made when it first calls.
    consumers: Box<[OnceCell<Rc<Account>>]>,
}

// === impl Account ===

impl Account {
    fn new(terms: Rc<Terms>, place: Place, tokens: Option<Rc<TokenMeters>>) -> Self {
        Self { terms, place, tokens, exhausted: RefCell::default() }
    }
}

// === impl Accounts ===

impl Accounts {
    /// None is made yet.
    pub(crate) fn new(config: &Config, book: Book) -> Self {
        Self { book, consumers: config.consumers.consumers().iter().map(|_| OnceCell::new()).collect() }
    }

    /// The account of a listed consumer whose request no rule concerns, but for what it costs.
    #[inline]
    pub(crate) fn usual(&self, namespace: &Namespace, index: usize, consumer: &Consumer) -> Option<&Rc<Account>> {
        let usual = self.consumers.get(index)?;
        match usual.get() {
            Some(account) => Some(account),
            None => self.first(namespace, index, consumer, usual),
        }
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
                let usual = self.usual(namespace, *index, consumer)?;
                if charging.is_usual() {
                    return Some((usual.clone(), None));
                }
                Some((self.account(base(*index, consumer), usual.place.clone(), charging)?, None))
            }
            Caller::Unlisted { hash, plan, guard, .. } => {
                let place = |hash, plan| Place::Table { hash, counters: self.book.counters(plan) };
                let guard = match *guard {
                    Some((hash, plan)) => {
                        let terms = self.book.terms(Base::Plan(plan), &Charging::default())?;
                        let account = Account::new(terms, place(hash, plan), None);
                        (!account.terms.limits.is_empty()).then(|| Rc::new(account))
                    }
                    None => None,
                };
                Some((self.account(Base::Plan(*plan), place(*hash, *plan), charging)?, guard))
            }
        }
    }

    #[cold]
    fn first<'a>(
        &self,
        namespace: &Namespace,
        index: usize,
        consumer: &Consumer,
        cell: &'a OnceCell<Rc<Account>>,
    ) -> Option<&'a Rc<Account>> {
        let place = Place::Own(index, namespace.consumer_record(consumer).into());
        let account = self.account(base(index, consumer), place, &Charging::default())?;
        Some(cell.get_or_init(|| account))
    }

    fn account(&self, base: Base, place: Place, charging: &Charging) -> Option<Rc<Account>> {
        let terms = self.book.terms(base, charging)?;
        let tokens = self.book.tokens(&terms, charging);
        Some(Rc::new(Account::new(terms, place, tokens)))
    }
}

/// Whose limits a consumer has.
fn base(index: usize, consumer: &Consumer) -> Base {
    if consumer.limits.is_some() { Base::Consumer(index) } else { Base::Plan(consumer.plan) }
}
