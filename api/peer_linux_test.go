package api

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const strangerEnv = "FAIRLEAD_TEST_STRANGER"

// TestStranger lets another user, to whom the file mode was opened by mistake, ask the daemon.
func TestStranger(t *testing.T) {
	if path := os.Getenv(strangerEnv); path != "" {
		beStranger(path)
	}
	if os.Geteuid() != 0 {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal("becoming another user needs root")
		}
		t.Skip("becoming another user needs root")
	}
	path := serve(t, Options{Table: &fakeTable{}})
	for _, open := range []string{path, path[:len(path)-2], path[:len(path)-len("/fairlead/s")]} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Open("/proc/self/exe") // the stranger may not reach the file by its path
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestStranger$")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Path = "/proc/self/fd/3"
	cmd.Dir = "/"
	cmd.Env = []string{strangerEnv + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the stranger: %v: %s", err, out)
	}
}

// beStranger ends the process, with 0 when the connection was closed without an answer.
func beStranger(path string) {
	c, err := net.Dial("unix", path)
	if err != nil {
		println("cannot even connect: the test is not testing:", err.Error())
		os.Exit(2)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: fairlead\r\n\r\n"))
	if n, _ := c.Read(make([]byte, 100)); n > 0 {
		println("was answered")
		os.Exit(1)
	}
	os.Exit(0)
}
