//! The slot as it is, and broken on purpose (see `build.rs`).

macro_rules! versions {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub mod $name {
            use crate::sync;
            #[allow(unused_imports, reason = "one of the broken versions calls it")]
            use world::cancel_and_wait;

            #[allow(dead_code, clippy::all, reason = "the product's source, of which the model uses a part")]
            mod slot_entry {
                include!(concat!(env!("OUT_DIR"), "/slot_entry.rs"));
            }

            #[allow(dead_code, clippy::all, reason = "the product's source, of which the model uses a part")]
            mod slot {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
            }

            #[allow(dead_code, reason = "a broken version leaves some of it out")]
            mod mail {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".mail.rs"));
            }

            #[allow(dead_code, reason = "one of the broken versions calls all of it")]
            mod world {
                include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/world.rs"));
            }

            pub use world::play;
        }
    )*};
}

versions! {
    /// The slot as it is.
    as_it_is,
    /// A critical section in two parts.
    drop_the_lock,
    /// Waits for the cancelled one while it holds the lock.
    cancel_inside_the_lock,
    /// Gives a number twice.
    reuse_an_incarnation,
    /// A stop during a crash is forgotten.
    forget_the_release,
    /// The next one begins at once.
    do_not_wait,
    /// A start has its number when it is let in, and a restart begins before it.
    number_too_early,
    /// A start does not look at what is up when it is ready.
    replace_an_equal,
    /// A start that takes over leaves the record of the one before.
    leave_the_record,
    /// A message comes again, and its sender gets the answer that it does not.
    answer_what_comes_again,
    /// What waits is lost when a start takes over.
    lose_what_waits,
}
