// The agent of tests/runners in Go: what works there works here.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	lifecycle "agent/bindings/exports/export_bulkhead_agent_lifecycle"
	_ "agent/bindings/exports/wit_exports"
	. "agent/bindings/imports/bulkhead_agent_agent_types"
	host "agent/bindings/imports/bulkhead_agent_host"
	model "agent/bindings/imports/bulkhead_agent_model"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

var status = model.Tool{
	Name:        "status",
	Description: "Say how it goes",
	Parameters:  `{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}`,
}

type agent struct {
	Count int `json:"count"`
	// Of this incarnation.
	said []model.ChatMessage
}

func init() { lifecycle.Serve(&agent{}) }

func main() {}

func (a *agent) Handle(message Message) (Outcome, error) {
	a.Count++
	if question, asks := strings.CutPrefix(message.Body, "ask "); asks {
		text, err := a.ask(question)
		return lifecycle.Reply(text), err
	}
	text, err := a.answer(message.Body)
	return lifecycle.Reply(text), err
}

func (a *agent) answer(text string) (string, error) {
	switch text {
	case "count":
		return fmt.Sprint(a.Count), nil
	case "twice":
		return strings.Repeat("x", 2), nil
	case "random":
		return fmt.Sprint(rand.Uint64()), nil
	case "emit":
		return "emitted", emit("runner.tested")
	case "background": // Nothing runs behind the reply of a component that is no interpreter.
		return "soon", emit("runner.done")
	case "caught":
		if sent := host.Send("nobody-there", "hi"); sent.IsErr() && sent.Err().Tag() == host.HostError_NotFound {
			return "not-found", nil
		}
	case "own":
		return "", failure("bad-prompt", "not like that", false)
	case "fatal":
		return "", failure("gave-up", "no more", true)
	}
	return "fine", nil
}

func (a *agent) Snapshot() ([]byte, error) { return json.Marshal(a) }

func (a *agent) Restore(snapshot []byte) error { return json.Unmarshal(snapshot, a) }

// ask lets the model call its tool until it answers. What was said is remembered when there is an answer.
func (a *agent) ask(text string) (string, error) {
	conversation := append(a.said[:len(a.said):len(a.said)], says(model.Role_User, text))
	for {
		result := model.Complete(model.Request{Messages: conversation, Tools: []model.Tool{status}})
		if result.IsErr() {
			return "", failure("no-answer", fmt.Sprintf("the model failed: %v", result.Err()), false)
		}
		answer := result.Ok()
		said := says(model.Role_Assistant, answer.Text)
		said.ToolCalls = answer.ToolCalls
		said.ReasoningState = answer.End.ReasoningState
		conversation = append(conversation, said)
		if len(answer.ToolCalls) == 0 {
			a.said = conversation
			return answer.Text, nil
		}
		for _, call := range answer.ToolCalls {
			done := says(model.Role_Tool, noted(call))
			done.ToolCallId = wit.Some(call.Id)
			conversation = append(conversation, done)
		}
		lifecycle.Collect()
	}
}

func noted(call model.ToolCall) string {
	var arguments struct{ Text string }
	if err := json.Unmarshal([]byte(call.Arguments), &arguments); err != nil {
		return "error: " + err.Error()
	}
	return "noted " + arguments.Text
}

func emit(name string) error {
	if result := host.Emit(host.Event{Name: name, Data: "{}"}); result.IsErr() {
		return failure("no-event", "the host refuses the event", false)
	}
	return nil
}

func failure(code, message string, fatal bool) error {
	return &lifecycle.Failure{AgentError: AgentError{Code: code, Message: message, Fatal: fatal}}
}

func says(role model.Role, text string) model.ChatMessage {
	return model.ChatMessage{Role: role, Content: []model.Content{model.MakeContentText(text)}}
}
