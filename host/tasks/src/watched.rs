//! Channels that mostly nobody waits at.

use tokio::sync::watch;

/// Sets what a channel holds; see [`modify`].
pub fn set<T>(sender: &watch::Sender<T>, value: T) {
    modify(sender, |held| *held = value);
}

/// Changes what a channel holds. Unlike [`watch::Sender::send_modify`] it does not take the locks of tokio's eight lists of
/// waiters while there is no receiver, as in most turns of an agent.
///
/// Nobody misses a change. A receiver counts from its `subscribe` on; what it looks at after that, the channel's value or
/// what its sender changed under a lock before this call, is either the new one already, or it is counted here.
pub fn modify<T>(sender: &watch::Sender<T>, change: impl FnOnce(&mut T)) {
    sender.send_if_modified(|held| {
        change(held);
        sender.receiver_count() > 0
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_value_is_there_for_those_who_come_later() {
        let sender = watch::Sender::new(1);
        set(&sender, 2);
        let receiver = sender.subscribe();
        assert_eq!((*receiver.borrow(), receiver.has_changed().unwrap()), (2, false));
        set(&sender, 3);
        assert_eq!((*receiver.borrow(), receiver.has_changed().unwrap()), (3, true));
    }

    /// Who subscribes while it is set sees the value, or that it changed.
    #[test]
    fn nobody_misses_a_change() {
        for round in 0..2000 {
            let sender = Arc::new(watch::Sender::new(0));
            let setter = thread::spawn({
                let sender = Arc::clone(&sender);
                move || set(&sender, 1)
            });
            let receiver = sender.subscribe();
            let seen = *receiver.borrow();
            setter.join().unwrap();
            assert!(seen == 1 || receiver.has_changed().unwrap(), "round {round}");
        }
    }
}
