//! The protocol as it is, and broken on purpose (see `build.rs`).

macro_rules! versions {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub mod $name {
            #[allow(dead_code, unused, missing_docs, clippy::all, reason = "the product's source, of which the model uses a part")]
            mod protocol {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));

                pub mod world {
                    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/world.rs"));
                }
            }

            pub use protocol::world::check;
        }
    )*};
}

versions! {
    /// The protocol as it is.
    as_it_is,
    /// The work of a holder never ends by itself.
    no_fence,
    /// A renewal counts although the fence was reached before its answer.
    come_again,
    /// Belief begins with the answer.
    count_from_the_answer,
    /// Waiting begins where the clock of the holder says that it wrote.
    trust_another_clock,
    /// A renewal does not make others wait again.
    wait_once,
    /// Clocks are taken to be equally fast.
    no_margin,
    /// Others wait for as long as work may begin, and not for as long as it may run.
    wait_for_the_fence,
    /// The number of a lease that was given back is taken again.
    take_the_number_again,
    /// An acquisition goes on with the number of the one before.
    same_number,
    /// A write without an answer is taken for written.
    believe_without_an_answer,
    /// A record with the own name is taken for the own one.
    believe_the_name,
    /// A write without an answer is sent again as it was, and counts from then on.
    count_from_the_second_try,
    /// Who receives does not compare.
    no_gate,
}
