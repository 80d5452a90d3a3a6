package main

import "os"

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
	}
}
