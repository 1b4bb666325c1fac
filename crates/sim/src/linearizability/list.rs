//! [`EventList`]: calls and returns in order of time, from which an operation can be taken out and put back in one step.
//!
//! Always: operations are put back in the reverse order of their removal ("dancing links"; Knuth, 2000), so that each
//! neighbour remembered by a removed event is right again when it is put back.

/// The end of one operation or its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Call(usize),
    Return(usize),
}

/// A place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

/// Before the first event and after the last.
const ENDS: Place = Place(0);

struct Node {
    event: Event,
    before: Place,
    after: Place,
}

pub(super) struct EventList {
    /// The first one stands for both ends.
    nodes: Vec<Node>,
    calls: Vec<Place>,
    /// Of operations that returned.
    returns: Vec<Option<Place>>,
    /// How many returns are in the list.
    count: usize,
}

impl EventList {
    /// From when each operation was called and returned.
    pub(super) fn new(times: impl Iterator<Item = (u64, Option<u64>)>) -> EventList {
        let mut events = Vec::new();
        for (operation, (called, returned)) in times.enumerate() {
            events.push((called, Event::Call(operation)));
            if let Some(returned) = returned {
                assert!(called < returned, "operation {operation} returns at {returned}, before it is called at {called}");
                events.push((returned, Event::Return(operation)));
            }
        }
        // Two operations that touch at one moment count as overlapping: calls come first.
        events.sort_by_key(|(moment, event)| (*moment, matches!(event, Event::Return(_))));

        let operations = events.iter().filter(|(_, event)| matches!(event, Event::Call(_))).count();
        let count = events.len();
        let mut list = EventList {
            nodes: vec![Node { event: Event::Return(usize::MAX), before: Place(count), after: Place(usize::from(count > 0)) }],
            calls: vec![ENDS; operations],
            returns: vec![None; operations],
            count: count - operations,
        };
        for (position, (_, event)) in events.into_iter().enumerate() {
            let place = Place(position + 1);
            match event {
                Event::Call(operation) => list.calls[operation] = place,
                Event::Return(operation) => list.returns[operation] = Some(place),
            }
            let after = if position + 1 == count { ENDS } else { Place(position + 2) };
            list.nodes.push(Node { event, before: Place(position), after });
        }
        list
    }

    /// How many returns are in the list.
    pub(super) fn returns(&self) -> usize {
        self.count
    }

    /// The earliest event. There must be one.
    pub(super) fn first(&self) -> Place {
        self.nodes[ENDS.0].after
    }

    pub(super) fn after(&self, place: Place) -> Place {
        self.nodes[place.0].after
    }

    /// The event at `place`, which must not be the end: whoever walks meets a return before it.
    pub(super) fn at(&self, place: Place) -> Event {
        assert_ne!(place, ENDS, "a return comes before the end");
        self.nodes[place.0].event
    }

    pub(super) fn call_of(&self, operation: usize) -> Place {
        self.calls[operation]
    }

    /// Takes an operation's call and return out.
    pub(super) fn remove(&mut self, operation: usize) {
        self.unlink(self.calls[operation]);
        if let Some(place) = self.returns[operation] {
            self.unlink(place);
            self.count -= 1;
        }
    }

    /// Puts the operation back that was removed last.
    pub(super) fn restore(&mut self, operation: usize) {
        if let Some(place) = self.returns[operation] {
            self.link(place);
            self.count += 1;
        }
        self.link(self.calls[operation]);
    }

    fn unlink(&mut self, place: Place) {
        let Node { before, after, .. } = self.nodes[place.0];
        self.nodes[before.0].after = after;
        self.nodes[after.0].before = before;
    }

    fn link(&mut self, place: Place) {
        let Node { before, after, .. } = self.nodes[place.0];
        self.nodes[before.0].after = place;
        self.nodes[after.0].before = place;
    }
}
