//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// ordinaryEnv says that a program that root runs is to become an ordinary user first.
const ordinaryEnv = "FAIRLEAD_TEST_ORDINARY"

const nobody = 65534

// openToOrdinary gives a script's directory to the user that its programs run as.
func openToOrdinary(env *testscript.Env) error {
	if os.Geteuid() != 0 {
		return nil
	}
	env.Setenv(ordinaryEnv, "1")
	if err := os.Chmod(filepath.Dir(env.WorkDir), 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(env.WorkDir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
}

func becomeOrdinary() {
	if os.Getenv(ordinaryEnv) == "" || os.Geteuid() != 0 {
		return
	}
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "becoming an ordinary user:", err)
			os.Exit(3)
		}
	}
}
