//! State that travels.

use bulkhead_types::Event;
use bulkhead_types::event::{ShipAvailable, ShipFailed, ShipRestored};

pub(super) fn all() -> [Event; 4] {
    let restored = |state, complete, kept_as: Option<&str>| {
        Event::ShipRestored(ShipRestored {
            from: "s3://towns/state/town-7".into(),
            state,
            segments: 31,
            bytes: 1_437_696,
            duration_ms: 212,
            complete,
            kept_as: kept_as.map(str::to_owned),
        })
    };
    [
        restored("disk", true, None),
        restored(
            "shipped",
            false,
            Some("/var/lib/bulkhead/store/bulkhead.db.set-aside-1785000000000"),
        ),
        Event::ShipFailed(ShipFailed {
            message:
                "cannot write s3://towns/state/town-7/log/00000000000000000032: connection refused"
                    .into(),
        }),
        Event::ShipAvailable(ShipAvailable { down_ms: 8_214 }),
    ]
}
