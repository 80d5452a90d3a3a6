//! Ends its turn in a way of the message's choice.
//!
//! | body | what it does | exit reason |
//! | --- | --- | --- |
//! | `panic` | panics with a message | `panic` |
//! | `unwrap` | unwraps `None` | `panic` |
//! | `unreachable` | the wasm instruction, without a panic message | `trap`, `unreachable` |
//! | `wild-pointer` | reads outside of linear memory | `trap`, memory out of bounds |
//! | `divide` | an integer division by zero that the CPU sees | `trap`, division by zero |
//! | `error` | returns an error that is not fatal | none; the agent keeps running |
//! | `fatal-error` | returns a fatal error | `guest_error` |
//!
//! Any other body is answered with itself.

use std::hint::black_box;

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

/// The last bytes of a 32-bit address space: no memory of less than 4 GiB reaches there.
const WILD_ADDRESS: usize = 0xffff_fff0;

#[derive(Default)]
struct Trap;

impl Agent for Trap {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        match message.body.as_str() {
            "panic" => panic!("told to panic by message {}", message.id),
            #[expect(clippy::unwrap_used, reason = "the fault that is asked for")]
            "unwrap" => Ok(Outcome::reply(black_box(None::<String>).unwrap())),
            "unreachable" => unreachable_instruction(),
            "wild-pointer" => Ok(Outcome::reply(read_wild_pointer().to_string())),
            "divide" => {
                Ok(Outcome::reply(divide_unchecked(black_box(1), black_box(0)).to_string()))
            }
            "error" => Err(AgentError::failed("told-to-fail", "told to fail by a message")),
            "fatal-error" => Err(AgentError::fatal("told-to-fail", "told to fail by a message")),
            _ => Ok(Outcome::reply(message.body)),
        }
    }
}

#[inline(never)]
fn unreachable_instruction() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

#[expect(unsafe_code, reason = "what safe code cannot do is what this agent is for")]
#[inline(never)]
fn read_wild_pointer() -> u8 {
    // SAFETY: none, on purpose. WebAssembly checks the address and traps; nothing is read.
    unsafe { std::ptr::read_volatile(black_box(WILD_ADDRESS) as *const u8) }
}

/// Rust checks the divisor and panics; this trap is about the instruction itself.
#[expect(unsafe_code, reason = "what safe code cannot do is what this agent is for")]
#[inline(never)]
fn divide_unchecked(dividend: u32, divisor: u32) -> u32 {
    if divisor == 0 {
        // SAFETY: none, on purpose. It makes the compiler leave out the check, so that `i32.div_u`
        // meets the zero and traps.
        unsafe { std::hint::unreachable_unchecked() };
    }
    black_box(dividend / divisor)
}

bulkhead_guest::export!(Trap);
