//! Whose turn it is. A plain struct: it knows neither the time nor what runs.
//!
//! Three rules, one inside the other. A higher class goes first. Inside a class the client goes first to whom the least was given, by
//! its weight (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996): a client that comes new, or again, starts where those
//! who wait there stand, so that nobody saves up and nobody pays for the time before. Inside a client's share the lowest rank
//! goes first, which the scheduler makes of age and length.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Ticket;
use crate::clients::{Client, Identity};
use crate::job::Priority;

/// Of the places in order, so many clients are looked at for one whose request fits, and so many requests of each.
const LOOK: usize = 8;
/// Clients without any request whose accounts are kept, until others have caught up with them.
const ACCOUNTS: usize = 10_000;
/// An account counts work by this part of its unit, so that weights divide it finely.
const GRAIN: f64 = 1024.0;

/// What was given to a client, over its weight.
type Given = u128;

/// A place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) class: Priority,
    pub(super) rank: Duration,
    pub(super) ticket: Ticket,
}

/// One client's requests and its account.
#[derive(Debug)]
pub(super) struct Share {
    weight: f64,
    given: Given,
    /// Work of what was given that is not done yet. It may still come back.
    undone: u64,
    /// Of each class.
    waiting: BTreeMap<Priority, BTreeSet<(Duration, Ticket)>>,
    /// Requests that wait or run: the account is needed as long as there are any.
    requests: usize,
}

impl Share {
    /// Its requests of a class, in order.
    pub(super) fn of_class(&self, class: Priority) -> impl Iterator<Item = Ticket> + '_ {
        self.waiting.get(&class).into_iter().flatten().map(|(_, ticket)| *ticket)
    }

    /// What one unit of work adds to the account.
    pub(super) fn charge(&self, work: u64) -> Given {
        (work as f64 * GRAIN / self.weight) as Given
    }

    pub(super) fn given(&self) -> Given {
        self.given
    }

    /// The work that is given to it until its account stands at `stand`.
    pub(super) fn until(&self, stand: Given) -> u64 {
        (stand.saturating_sub(self.given) as f64 * self.weight / GRAIN) as u64
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Order {
    shares: HashMap<Identity, Share>,
    /// Clients with waiting requests, by class, the least served first.
    classes: BTreeMap<Priority, BTreeSet<(Given, Identity)>>,
    /// Accounts of clients that have no request at all.
    resting: BTreeSet<(Given, Identity)>,
    /// Where the client stood that was last given something.
    now: Given,
}

impl Order {
    /// A client has one more request. Its account is opened, or found again.
    pub(super) fn enter(&mut self, client: &Client, class: Priority) {
        let stand = self.stand(&client.identity, class);
        let share = self.shares.entry(client.identity.clone()).or_insert_with(|| Share {
            weight: client.weight,
            given: stand,
            undone: 0,
            waiting: BTreeMap::new(),
            requests: 0,
        });
        share.weight = client.weight;
        if share.requests == 0 {
            self.resting.remove(&(share.given, client.identity.clone()));
            share.given = stand;
        }
        share.requests += 1;
    }

    /// The request has ended.
    pub(super) fn leave(&mut self, identity: &Identity) {
        let Some(share) = self.shares.get_mut(identity) else { return };
        share.requests = share.requests.saturating_sub(1);
        if share.requests == 0 {
            self.resting.insert((share.given, identity.clone()));
            self.forget();
        }
    }

    /// A request waits.
    pub(super) fn insert(&mut self, identity: &Identity, seat: Seat) {
        let Some(share) = self.shares.get_mut(identity) else { return };
        share.waiting.entry(seat.class).or_default().insert((seat.rank, seat.ticket));
        self.classes.entry(seat.class).or_default().insert((share.given, identity.clone()));
    }

    /// A request waits no longer, or not there.
    pub(super) fn remove(&mut self, identity: &Identity, seat: Seat) {
        let Some(share) = self.shares.get_mut(identity) else { return };
        let Some(waiting) = share.waiting.get_mut(&seat.class) else { return };
        waiting.remove(&(seat.rank, seat.ticket));
        if waiting.is_empty() {
            share.waiting.remove(&seat.class);
            if let Some(class) = self.classes.get_mut(&seat.class) {
                class.remove(&(share.given, identity.clone()));
            }
        }
    }

    /// Work is given to a client.
    pub(super) fn give(&mut self, identity: &Identity, work: u64) {
        if let Some(share) = self.shares.get_mut(identity) {
            self.now = share.given;
            share.undone = share.undone.saturating_add(work);
            let given = share.given.saturating_add(share.charge(work));
            self.set_given(identity, given);
        }
    }

    /// Part of what was given is done.
    pub(super) fn done(&mut self, identity: &Identity, work: u64) {
        if let Some(share) = self.shares.get_mut(identity) {
            share.undone = share.undone.saturating_sub(work);
        }
    }

    /// Part of what was given was not used.
    pub(super) fn give_back(&mut self, identity: &Identity, work: u64) {
        if let Some(share) = self.shares.get(identity) {
            let given = share.given.saturating_sub(share.charge(work));
            self.set_given(identity, given);
            self.done(identity, work);
        }
    }

    /// Requests in the order of their turns: the first, and those that may pass it where it does not fit.
    /// One class may have its turn before all others.
    pub(super) fn candidates(&self, before: Option<Priority>) -> impl Iterator<Item = Ticket> + '_ {
        let first = before.and_then(|class| self.classes.get_key_value(&class));
        let others = self.classes.iter().rev().filter(move |(class, _)| Some(**class) != before);
        let in_order =
            first.into_iter().chain(others).flat_map(|(class, shares)| shares.iter().map(|(_, id)| (*class, id)));
        in_order.take(LOOK).flat_map(|(class, identity)| {
            self.shares.get(identity).into_iter().flat_map(move |share| share.of_class(class)).take(LOOK)
        })
    }

    /// Whether a class has waiting requests.
    pub(super) fn waits(&self, class: Priority) -> bool {
        self.classes.get(&class).is_some_and(|shares| !shares.is_empty())
    }

    /// All clients with waiting requests, class by class from the highest.
    pub(super) fn classes(&self) -> impl Iterator<Item = (Priority, Vec<&Share>)> + '_ {
        self.classes.iter().rev().map(|(class, shares)| {
            (*class, shares.iter().filter_map(|(_, identity)| self.shares.get(identity)).collect())
        })
    }

    /// A client's own part.
    pub(super) fn share(&self, identity: &Identity) -> Option<&Share> {
        self.shares.get(identity)
    }

    /// Where a client stands once it has a request of this class.
    pub(super) fn stand(&self, identity: &Identity, class: Priority) -> Given {
        match self.shares.get(identity) {
            Some(share) if share.requests > 0 => share.given,
            Some(share) => share.given.max(self.floor(class)),
            None => self.floor(class),
        }
    }

    fn set_given(&mut self, identity: &Identity, given: Given) {
        let Some(share) = self.shares.get_mut(identity) else { return };
        let before = std::mem::replace(&mut share.given, given);
        for class in share.waiting.keys() {
            if let Some(shares) = self.classes.get_mut(class) {
                shares.remove(&(before, identity.clone()));
                shares.insert((given, identity.clone()));
            }
        }
        if share.requests == 0 && self.resting.remove(&(before, identity.clone())) {
            self.resting.insert((given, identity.clone()));
        }
    }

    /// Where a client begins that comes to this class: where the latest turn was, as far as that is between what was done for the least
    /// served and what was given to it. What runs may be cancelled and come back, and then who came meanwhile would stand behind all
    /// of that; and who stands below what was done has saved up.
    fn floor(&self, class: Priority) -> Given {
        let first = self.classes.get(&class).and_then(BTreeSet::first);
        let first = first.and_then(|(_, identity)| self.shares.get(identity));
        first.map_or(self.now, |share| {
            let done = share.given.saturating_sub(share.charge(share.undone));
            self.now.clamp(done, share.given)
        })
    }

    /// Accounts that say nothing any more, and the smallest of too many.
    fn forget(&mut self) {
        while let Some((given, identity)) = self.resting.first()
            && (*given <= self.now || self.resting.len() > ACCOUNTS)
        {
            self.shares.remove(identity);
            self.resting.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, weight: f64) -> Client {
        Client { weight, ..Client::named(name) }
    }

    /// Gives `times` times 10 units of work, done at once, to whose turn it is and returns who that was; nobody leaves.
    fn turns(order: &mut Order, clients: &[Client], owner: &HashMap<Ticket, usize>, times: usize) -> Vec<usize> {
        (0..times)
            .map(|_| {
                let index = owner[&order.candidates(None).next().unwrap()];
                order.give(&clients[index].identity, 10);
                order.done(&clients[index].identity, 10);
                index
            })
            .collect()
    }

    fn waiting(clients: &[Client], class: Priority) -> (Order, HashMap<Ticket, usize>) {
        let (mut order, mut owner) = (Order::default(), HashMap::new());
        for (index, client) in clients.iter().enumerate() {
            let ticket = Ticket(index as u64);
            order.enter(client, class);
            order.insert(&client.identity, Seat { class, rank: Duration::ZERO, ticket });
            owner.insert(ticket, index);
        }
        (order, owner)
    }

    #[test]
    fn turns_go_by_weight() {
        let clients = [client("a", 1.0), client("b", 3.0)];
        let (mut order, owner) = waiting(&clients, Priority::Normal);
        let turns = turns(&mut order, &clients, &owner, 400);
        let of_b = turns.iter().filter(|index| **index == 1).count();
        assert_eq!(of_b, 300);
    }

    #[test]
    fn who_comes_later_starts_where_the_others_are() {
        let clients = [client("a", 1.0), client("b", 1.0)];
        let (mut order, mut owner) = waiting(&clients[..1], Priority::Normal);
        turns(&mut order, &clients, &owner, 100);
        order.enter(&clients[1], Priority::Normal);
        order.insert(&clients[1].identity, Seat { class: Priority::Normal, rank: Duration::ZERO, ticket: Ticket(7) });
        owner.insert(Ticket(7), 1);
        let of_b = turns(&mut order, &clients, &owner, 10).iter().filter(|index| **index == 1).count();
        assert_eq!(of_b, 5, "it gets its half, not what it missed");
    }

    #[test]
    fn who_comes_while_much_runs_does_not_pay_for_what_is_cancelled() {
        let clients = [client("a", 1.0), client("b", 1.0)];
        let (mut order, mut owner) = waiting(&clients[..1], Priority::Normal);
        let (of_a, of_b) = (&clients[0].identity, &clients[1].identity);
        order.give(of_a, 100_000);
        order.done(of_a, 20);
        order.enter(&clients[1], Priority::Normal);
        order.insert(of_b, Seat { class: Priority::Normal, rank: Duration::ZERO, ticket: Ticket(7) });
        owner.insert(Ticket(7), 1);
        order.done(of_a, 10);
        order.give_back(of_a, 99_970);
        let turns = turns(&mut order, &clients, &owner, 10);
        assert_eq!(turns.iter().filter(|index| **index == 1).count(), 5, "{turns:?}");
        assert_eq!(turns[0], 1, "the other got something meanwhile");
    }

    #[test]
    fn who_comes_while_much_runs_is_not_served_before_all_who_wait() {
        let clients = [client("a", 1.0), client("b", 1.0), client("c", 1.0)];
        let (mut order, mut owner) = waiting(&clients[..2], Priority::Normal);
        order.give(&clients[0].identity, 1000);
        assert_eq!(turns(&mut order, &clients, &owner, 100), [1; 100]);
        order.enter(&clients[2], Priority::Normal);
        order.insert(&clients[2].identity, Seat { class: Priority::Normal, rank: Duration::ZERO, ticket: Ticket(7) });
        owner.insert(Ticket(7), 2);
        let turns = turns(&mut order, &clients, &owner, 10);
        assert_eq!([0, 1, 2].map(|index| turns.iter().filter(|turn| **turn == index).count()), [3, 3, 4], "{turns:?}");
    }

    #[test]
    fn leaving_and_coming_back_clears_no_account() {
        let clients = [client("a", 1.0), client("b", 1.0)];
        let (mut order, owner) = waiting(&clients, Priority::Normal);
        order.give(&clients[0].identity, 100);
        let seat = Seat { class: Priority::Normal, rank: Duration::ZERO, ticket: Ticket(0) };
        order.remove(&clients[0].identity, seat);
        order.leave(&clients[0].identity);
        order.enter(&clients[0], Priority::Normal);
        order.insert(&clients[0].identity, seat);
        assert_eq!(turns(&mut order, &clients, &owner, 10), [1; 10], "b catches up first");
        order.give_back(&clients[0].identity, 100);
        assert_eq!(turns(&mut order, &clients, &owner, 10), [0; 10]);
    }

    #[test]
    fn accounts_that_say_nothing_are_forgotten() {
        let mut order = Order::default();
        for index in 0..ACCOUNTS + 50 {
            let client = client(&index.to_string(), 1.0);
            order.enter(&client, Priority::Normal);
            order.give(&client.identity, 1 + index as u64);
            order.leave(&client.identity);
        }
        assert!(order.shares.len() <= ACCOUNTS, "{}", order.shares.len());
        assert_eq!(order.shares.len(), order.resting.len());
    }

    #[test]
    fn a_higher_class_goes_first() {
        let clients = [client("a", 1.0), client("b", 1.0)];
        let (mut order, _) = waiting(&clients[..1], Priority::High);
        order.enter(&clients[1], Priority::Normal);
        order.insert(&clients[1].identity, Seat { class: Priority::Normal, rank: Duration::ZERO, ticket: Ticket(1) });
        order.give(&clients[0].identity, 1000);
        assert_eq!(order.candidates(None).collect::<Vec<_>>(), [Ticket(0), Ticket(1)]);
    }
}
