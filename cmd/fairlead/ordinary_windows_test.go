package main

import "github.com/rogpeppe/go-internal/testscript"

const ordinaryEnv = "FAIRLEAD_TEST_ORDINARY"

func openToOrdinary(*testscript.Env) error { return nil }

func becomeOrdinary() {}
