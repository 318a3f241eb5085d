//go:build !linux

package main

const childEnv = "FAIRLEAD_TEST_CHILD"

func beChild(string) int { return 1 }
