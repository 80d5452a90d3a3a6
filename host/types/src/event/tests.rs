use super::*;

#[test]
fn a_line_carries_its_name_and_camel_case_fields() {
    let event = Event::MemorySoftLimit(MemorySoftLimit {
        agent: AgentTag {
            agent_id: AgentId::parse("a1").unwrap(),
            role: "mayor".into(),
            incarnation: Incarnation(2),
        },
        used_bytes: 80,
        host_bytes: 5,
        soft_bytes: 79,
        limit_bytes: 100,
    });
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        serde_json::json!({
            "event": "agent.memory_soft_limit",
            "agentId": "a1", "role": "mayor", "incarnation": 2,
            "usedBytes": 80, "hostBytes": 5, "softBytes": 79, "limitBytes": 100,
        })
    );
}
