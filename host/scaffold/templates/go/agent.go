// An agent that asks a language model, and writes down what it should remember.
package main

import (
	"encoding/json"
	"fmt"
	"strings"

	lifecycle "agent/bindings/exports/export_bulkhead_agent_lifecycle"
	_ "agent/bindings/exports/wit_exports"
	. "agent/bindings/imports/bulkhead_agent_agent_types"
	model "agent/bindings/imports/bulkhead_agent_model"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

const system = "You are {{name}}. Answer briefly. Write down what you should remember."

var note = model.Tool{
	Name:        "note",
	Description: "Write something down",
	Parameters:  `{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}`,
}

type agent struct {
	Turns int      `json:"turns"`
	Notes []string `json:"notes"`
}

func init() { lifecycle.Serve(&agent{}) }

func main() {}

func (a *agent) Handle(message Message) (Outcome, error) {
	a.Turns++
	if message.Body == "notes" {
		if len(a.Notes) == 0 {
			return lifecycle.Reply("no notes yet"), nil
		}
		return lifecycle.Reply(strings.Join(a.Notes, "\n")), nil
	}
	text, err := a.ask(message.Body)
	return lifecycle.Reply(text), err
}

func (a *agent) Snapshot() ([]byte, error) { return json.Marshal(a) }

func (a *agent) Restore(snapshot []byte) error { return json.Unmarshal(snapshot, a) }

// ask lets the model call its tool until it answers.
func (a *agent) ask(text string) (string, error) {
	conversation := []model.ChatMessage{says(model.Role_System, system), says(model.Role_User, text)}
	for {
		result := model.Complete(model.Request{Messages: conversation, Tools: []model.Tool{note}})
		if result.IsErr() {
			return a.withoutModel(text, result.Err())
		}
		answer := result.Ok()
		if len(answer.ToolCalls) == 0 {
			return answer.Text, nil
		}
		said := says(model.Role_Assistant, answer.Text)
		said.ToolCalls = answer.ToolCalls
		// Models that think want back what they thought.
		said.ReasoningState = answer.End.ReasoningState
		conversation = append(conversation, said)
		for _, call := range answer.ToolCalls {
			done := says(model.Role_Tool, a.call(call))
			done.ToolCallId = wit.Some(call.Id)
			conversation = append(conversation, done)
		}
		lifecycle.Collect()
	}
}

func (a *agent) call(call model.ToolCall) string {
	var arguments struct{ Text string }
	if err := json.Unmarshal([]byte(call.Arguments), &arguments); err != nil {
		return "error: " + err.Error()
	}
	a.Notes = append(a.Notes, arguments.Text)
	return "done"
}

func (a *agent) withoutModel(text string, err model.ModelError) (string, error) {
	if err.Tag() == model.ModelError_Denied { // See `models` in bulkhead.toml.
		return fmt.Sprintf("%d: %s", a.Turns, text), nil
	}
	return "", &lifecycle.Failure{AgentError: AgentError{Code: "no-answer", Message: fmt.Sprintf("the model failed: %v", err)}}
}

func says(role model.Role, text string) model.ChatMessage {
	return model.ChatMessage{Role: role, Content: []model.Content{model.MakeContentText(text)}}
}
