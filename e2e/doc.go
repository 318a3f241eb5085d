// Package e2e tests the whole of Fairlead the way it is used: the built program, in network namespaces with the true
// kernel, with the programs that people run behind and in front of it. It has no code of its own; nothing imports it.
package e2e
