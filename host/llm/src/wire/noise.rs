//! A bounded run of what the fuzz target does: seeds with mistakes in them.

const SEEDS: [&str; 6] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"fine\"},\"finish_reason\":null}]}\n\ndata: [DONE]\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"read\",\"arguments\":\"{\"}}]}}]}\r\n\r\n",
    "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}",
    "event: error\rdata: {\"error\":{\"message\":\"over\",\"code\":500}}\r\r",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"read\",\"input\":{}}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":2}}\n\n",
    "[{\"error\":{\"code\":400}},{\"choices\":null,\"usage\":null}]",
];

#[test]
fn noise_in_answers_is_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for round in 0..20_000 {
        let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 if bytes.len() > 1 => _ = bytes.remove(at),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let other = SEEDS[random(SEEDS.len())].as_bytes();
                    bytes.splice(at..at, other[random(other.len())..].iter().copied());
                }
            }
        }
        let _ = super::read_any(&bytes, 1 + random(64));
    }
}
