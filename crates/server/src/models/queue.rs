//! Who is served next: windows of many requests, fair by tokens.
//!
//! Deficit round robin, twice: clients take turns, and so do the requests of one client. A turn
//! allows [`QUANTUM`] tokens; who takes more (a window is never cut) sits out turns until the debt
//! is paid, as long as anyone else waits. A round that several requests have a part of is a batch: nobody's
//! answer waits for more than a turn of the others. So a long document does not delay short questions,
//! and a client with a thousand requests does not delay one with a single one.

use std::collections::VecDeque;

/// Tokens of a turn: a dozen sentences or a passage.
const QUANTUM: i64 = 256;

/// Something that waits, of a known size.
pub(super) trait Waiting {
    /// Its size; at least 1 is assumed.
    fn tokens(&self) -> usize;
    /// True once nobody wants it any more.
    fn is_abandoned(&self) -> bool;
}

/// What waits for one model.
#[derive(Debug)]
pub(super) struct Queue<T> {
    clients: VecDeque<Client<T>>,
    tokens: usize,
    limit: usize,
    /// The number of the round, in which each request has one turn.
    round: u64,
}

#[derive(Debug)]
struct Client<T> {
    id: u64,
    credit: i64,
    /// The last round that it sat out.
    sat_out: u64,
    requests: VecDeque<Request<T>>,
}

#[derive(Debug)]
struct Request<T> {
    credit: i64,
    /// The last round in which it had its turn.
    round: u64,
    items: VecDeque<T>,
}

/// More would wait than may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// Tokens that wait already.
    pub(super) tokens: usize,
}

impl<T: Waiting> Queue<T> {
    /// An empty queue that takes `limit` tokens, or one request of any size.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            clients: VecDeque::new(),
            tokens: 0,
            limit,
            round: 0,
        }
    }

    /// Tokens that wait.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Appends a request of `client`.
    pub(super) fn push(&mut self, client: u64, items: VecDeque<T>) -> Result<(), Full> {
        let tokens: usize = items.iter().map(size).sum();
        if self.tokens + tokens > self.limit {
            self.forget_abandoned();
        }
        if self.tokens > 0 && self.tokens + tokens > self.limit {
            return Err(Full {
                tokens: self.tokens,
            });
        }
        if items.is_empty() {
            return Ok(());
        }
        self.tokens += tokens;
        let request = Request {
            credit: 0,
            round: 0,
            items,
        };
        match self.clients.iter_mut().find(|known| known.id == client) {
            Some(known) => known.requests.push_back(request),
            None => self.clients.push_back(Client {
                id: client,
                credit: 0,
                sat_out: 0,
                requests: VecDeque::from([request]),
            }),
        }
        Ok(())
    }

    /// The next items, together at most `budget` tokens, or one larger item alone.
    pub(super) fn take(&mut self, budget: usize) -> Vec<T> {
        let mut batch = Batch {
            items: Vec::new(),
            tokens: 0,
            budget,
            requests: 0,
            is_full: false,
        };
        self.round += 1;
        let mut in_a_row = 0;
        while !batch.is_full
            && let Some(mut client) = self.clients.pop_front()
        {
            if client.is_done(self.round) {
                self.clients.push_back(client);
                in_a_row += 1;
                if in_a_row < self.clients.len() {
                    continue;
                }
                if batch.requests > 1 {
                    break;
                }
                self.round += 1;
                batch.requests = 0;
                in_a_row = 0;
                continue;
            }
            in_a_row = 0;
            let waiting = self.tokens;
            self.tokens -= client.turn(self.round, &mut batch);
            if client.requests.is_empty() {
                continue;
            }
            // Whom the full batch stopped before it got anything has the first turn of the next.
            if batch.is_full && self.tokens == waiting {
                self.clients.push_front(client);
            } else {
                self.clients.push_back(client);
            }
        }
        batch.items
    }

    fn forget_abandoned(&mut self) {
        let mut tokens = 0;
        for client in &mut self.clients {
            for request in &mut client.requests {
                request.items.retain(|item| !item.is_abandoned());
                tokens += request.items.iter().map(size).sum::<usize>();
            }
            client.requests.retain(|request| !request.items.is_empty());
        }
        self.clients.retain(|client| !client.requests.is_empty());
        self.tokens = tokens;
    }
}

/// What a call of [`Queue::take`] has gathered.
struct Batch<T> {
    items: Vec<T>,
    tokens: usize,
    budget: usize,
    /// Requests that the round gave a part of it.
    requests: usize,
    is_full: bool,
}

impl<T: Waiting> Batch<T> {
    fn has_room(&self, tokens: usize) -> bool {
        self.items.is_empty() || self.tokens + tokens <= self.budget
    }
}

impl<T: Waiting> Client<T> {
    /// True if it has nothing to expect of the round any more. A request that had its turn goes to the end of
    /// the line, so the first one tells.
    fn is_done(&self, round: u64) -> bool {
        let first = self.requests.front();
        self.sat_out == round || first.is_some_and(|request| request.round == round)
    }

    /// Lets one of its requests have a turn; the tokens that left the queue.
    fn turn(&mut self, round: u64, batch: &mut Batch<T>) -> usize {
        let Some(mut request) = self.requests.pop_front() else {
            return 0;
        };
        self.credit = (self.credit + QUANTUM).min(QUANTUM);
        request.credit = (request.credit + QUANTUM).min(QUANTUM);
        if self.credit <= 0 {
            // Its debt is paid by the same turn.
            self.requests.push_back(request);
            self.sat_out = round;
            return 0;
        }
        request.round = round;
        let mut left = 0;
        let before = batch.items.len();
        while request.credit > 0
            && let Some(item) = request.items.front()
        {
            let tokens = size(item);
            let is_wanted = !item.is_abandoned();
            if is_wanted && !batch.has_room(tokens) {
                batch.is_full = true;
                break;
            }
            left += tokens;
            let item = request.items.pop_front();
            if is_wanted {
                batch.items.extend(item);
                batch.tokens += tokens;
                request.credit = request.credit.saturating_sub_unsigned(tokens as u64);
                self.credit = self.credit.saturating_sub_unsigned(tokens as u64);
            }
        }
        batch.requests += usize::from(batch.items.len() > before);
        if request.items.is_empty() {
            return left;
        }
        if batch.is_full && left == 0 {
            self.requests.push_front(request);
        } else {
            self.requests.push_back(request);
        }
        left
    }
}

fn size(item: &impl Waiting) -> usize {
    item.tokens().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client, tokens, abandoned.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Item(u64, usize, bool);

    impl Waiting for Item {
        fn tokens(&self) -> usize {
            self.1
        }
        fn is_abandoned(&self) -> bool {
            self.2
        }
    }

    fn push(queue: &mut Queue<Item>, client: u64, count: usize, tokens: usize) {
        let items = (0..count).map(|_| Item(client, tokens, false)).collect();
        queue.push(client, items).unwrap();
    }

    #[test]
    fn short_requests_of_the_same_client_pass_a_long_one() {
        let mut queue = Queue::new(1 << 20);
        push(&mut queue, 1, 32, 256);
        for _ in 0..20 {
            push(&mut queue, 1, 1, 17);
        }
        let batch = queue.take(2048);
        assert_eq!(batch.iter().filter(|item| item.1 == 17).count(), 20);
    }

    #[test]
    fn beside_others_a_long_request_has_one_turn_a_batch() {
        for clients in [1, 21] {
            let mut queue = Queue::new(1 << 20);
            push(&mut queue, 0, 32, 250);
            for number in 0..20 {
                push(&mut queue, number % clients, 1, 17);
            }
            let batch = queue.take(8192);
            let long = batch.iter().filter(|item| item.1 == 250).count();
            // The second window begins within the turn's 256 tokens.
            assert_eq!((long, batch.len()), (2, 22), "{clients} clients");
            // Alone again, it takes all there is.
            assert_eq!(queue.take(8192).len(), 30);
        }
    }

    #[test]
    fn who_is_in_debt_pays_one_turn_a_batch_that_others_share() {
        let mut queue = Queue::new(1 << 20);
        push(&mut queue, 1, 2, 1024);
        push(&mut queue, 2, 100, 100);
        push(&mut queue, 3, 100, 100);
        assert_eq!(queue.take(1000), [Item(1, 1024, false)]);
        for _ in 0..3 {
            let batch = queue.take(4096);
            assert!(batch.iter().all(|item| item.0 != 1), "{batch:?}");
            assert!((4..=6).contains(&batch.len()), "{batch:?}");
        }
        assert!(queue.take(4096).iter().any(|item| item.0 == 1));
    }

    #[test]
    fn a_busy_client_leaves_others_their_turn() {
        let mut queue = Queue::new(1 << 20);
        for _ in 0..1000 {
            push(&mut queue, 1, 1, 17);
        }
        push(&mut queue, 2, 1, 17);
        assert!(queue.take(100).iter().any(|item| item.0 == 2));
    }

    #[test]
    fn after_a_huge_window_its_client_waits_for_the_others() {
        let mut queue = Queue::new(1 << 20);
        push(&mut queue, 1, 4, 8000);
        push(&mut queue, 2, 100, 100);
        assert_eq!(queue.take(1000), [Item(1, 8000, false)]);
        // The debt is 8,000 tokens: 30 turns, in which the other client is served.
        let next: Vec<_> = (0..3).flat_map(|_| queue.take(1000)).collect();
        assert!(next.iter().all(|item| item.0 == 2), "{next:?}");
    }

    #[test]
    fn everything_comes_out_once_in_order_within_the_budget() {
        let mut queue = Queue::new(1 << 20);
        for client in 0..5 {
            for request in 0..4 {
                let sizes =
                    (0..7).map(|index| 1 + (client * 131 + request * 57 + index * 89) % 600);
                let items = sizes
                    .map(|size| Item(client, size as usize, false))
                    .collect();
                queue.push(client, items).unwrap();
            }
        }
        let mut count = 0;
        while !queue.is_empty() {
            let batch = queue.take(700);
            assert!(!batch.is_empty());
            assert!(batch.iter().map(|item| item.1).sum::<usize>() <= 700);
            count += batch.len();
        }
        assert_eq!((count, queue.tokens()), (5 * 4 * 7, 0));
    }

    #[test]
    fn a_full_queue_refuses_but_forgets_what_nobody_wants() {
        let mut queue = Queue::new(1000);
        // One request of any size is taken by an empty queue.
        queue
            .push(1, VecDeque::from([Item(1, 5000, true)]))
            .unwrap();
        push(&mut queue, 2, 9, 100);
        let more = VecDeque::from([Item(3, 200, false)]);
        assert_eq!(queue.push(3, more.clone()), Err(Full { tokens: 900 }));
        queue.take(500);
        assert_eq!(queue.push(3, more), Ok(()));
    }

    #[test]
    fn what_nobody_wants_is_never_taken() {
        let mut queue = Queue::new(1000);
        let items = [Item(1, 5, true), Item(1, 5, false), Item(1, 5, true)];
        queue.push(1, VecDeque::from(items)).unwrap();
        assert_eq!(queue.take(100), [Item(1, 5, false)]);
        assert!(queue.take(100).is_empty() && queue.is_empty());
        assert_eq!(queue.tokens(), 0);
    }
}
