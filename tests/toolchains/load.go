package main

// What goes wrong before there is an agent.
func init() { panic("not at load") }
