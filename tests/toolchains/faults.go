package main

import (
	"os"
	"sort"
	"strings"
	"time"

	. "agent/bindings/imports/bulkhead_agent_agent_types"
	host "agent/bindings/imports/bulkhead_agent_host"
)

var number int

func recurse(depth int) int {
	if depth == -number-1 {
		return depth
	}
	return 1 + recurse(depth+1)
}

func allMemory() {
	var kept [][]byte
	for {
		kept = append(kept, make([]byte, 1<<20))
		number = len(kept)
	}
}

// fault does what a message asks for.
func fault(name string) {
	var nothing *agent
	switch name {
	case "nil":
		number = nothing.Turns
	case "panic":
		panic("not like that")
	case "exit":
		os.Exit(3)
	case "loop":
		for number == 0 {
		}
	case "memory":
		allMemory()
	case "recursion":
		number = recurse(1)
	case "callback":
		sort.Slice([]int{2, 1}, func(int, int) bool { panic("in a callback") })
	case "goroutine":
		done := make(chan int)
		go func() { panic("in a goroutine") }()
		<-done
	case "timer":
		time.AfterFunc(time.Millisecond, func() { panic("in a timer") })
		time.Sleep(time.Second)
	case "refused":
		if sent := host.Send("nobody-there", "hi"); sent.IsErr() {
			panic("it was not sent")
		}
	}
}

// Start does what the name of the agent asks for.
func (a *agent) Start(request StartRequest) error {
	if name, asks := strings.CutPrefix(request.AgentId, "start-"); asks {
		fault(name)
	}
	return nil
}
