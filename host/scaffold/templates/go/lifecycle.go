// Package export_bulkhead_agent_lifecycle is where the host's calls arrive: the generated code calls the functions of
// these names.
package export_bulkhead_agent_lifecycle

import (
	"errors"
	"runtime"
	"runtime/debug"

	. "agent/bindings/imports/bulkhead_agent_agent_types"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Agent is what a program serves.
type Agent interface {
	// Handle works on one message: a turn.
	Handle(Message) (Outcome, error)
	// Snapshot returns everything that the next incarnation needs to go on.
	Snapshot() ([]byte, error)
	// Restore takes over what Snapshot of an earlier incarnation returned.
	Restore([]byte) error
}

// Starter is an agent that prepares itself.
type Starter interface{ Start(StartRequest) error }

// Stopper is an agent that does something when it is asked to end.
type Stopper interface{ Shutdown(ShutdownReason) error }

// Failure is an error that says what callers see of it. Any other error fails the turn, with the code `failed`.
type Failure struct{ AgentError }

func (f *Failure) Error() string { return f.Message }

// Reply is the outcome of a turn after which the agent waits for the next message.
func Reply(text string) Outcome {
	return Outcome{Reply: wit.Some(text), Next: Next_Idle}
}

var served Agent

// Serve makes this the agent of the component. An init function calls it.
func Serve(agent Agent) { served = agent }

// Go collects garbage when it allocates, and so also while the host passes an argument or a result, where a component
// must not call the host. The collector reads the clock by such a call, which ends the agent: `cannot leave component
// instance`. So it does not run by itself, and Collect runs it.
func init() { debug.SetGCPercent(-1) }

const least = 4 << 20

var (
	memory  runtime.MemStats
	collect uint64 = least
)

// Collect collects garbage if the heap has doubled since it last did. It runs at the end of each turn. Call it within a
// long one.
func Collect() {
	runtime.ReadMemStats(&memory)
	if memory.HeapAlloc < collect {
		return
	}
	runtime.GC()
	runtime.ReadMemStats(&memory)
	collect = max(2*memory.HeapAlloc, least)
}

// Start is called by the host.
func Start(request StartRequest) wit.Result[wit.Unit, AgentError] {
	if agent, ok := served.(Starter); ok {
		return result(wit.Unit{}, agent.Start(request))
	}
	return result(wit.Unit{}, nil)
}

// Handle is called by the host.
func Handle(message Message) wit.Result[Outcome, AgentError] {
	defer Collect()
	return result(served.Handle(message))
}

// Snapshot is called by the host.
func Snapshot() wit.Result[[]byte, AgentError] {
	defer Collect()
	return result(served.Snapshot())
}

// Restore is called by the host.
func Restore(snapshot []byte) wit.Result[wit.Unit, AgentError] {
	return result(wit.Unit{}, served.Restore(snapshot))
}

// Shutdown is called by the host.
func Shutdown(reason ShutdownReason) wit.Result[wit.Unit, AgentError] {
	if agent, ok := served.(Stopper); ok {
		return result(wit.Unit{}, agent.Shutdown(reason))
	}
	return result(wit.Unit{}, nil)
}

func result[T any](value T, err error) wit.Result[T, AgentError] {
	if err == nil {
		return wit.Ok[T, AgentError](value)
	}
	var failure *Failure
	if !errors.As(err, &failure) {
		failure = &Failure{AgentError{Code: "failed", Message: err.Error()}}
	}
	return wit.Err[T](failure.AgentError)
}
