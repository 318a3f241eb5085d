# make            bin/fairlead
# make test       go vet, and every test that this machine and user can run
# make help       the rest

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.stamped=$(VERSION)
GOBUILD  := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
PREFIX   ?= /usr/local
DESTDIR  ?=
FUZZTIME ?= 10s
# More flags for go test, such as -json or -count=1.
TESTFLAGS ?= -timeout=30m
ARCH     ?= $(shell go env GOARCH)
# os/arch[/variant]; mipsle without a floating-point unit is the usual small router.
TARGETS  ?= linux/amd64 linux/arm64 linux/arm/7 linux/mipsle/softfloat darwin/amd64 darwin/arm64 \
            freebsd/amd64 freebsd/arm64 windows/amd64 windows/arm64
RACE     ?= ./forward/... ./config/... ./node/... ./relay/... ./kernel/... ./store/... ./table/... ./api/... ./cmd/... ./sshd/... \
            ./password/... ./portmap/... ./firewall/... ./internal/sshchan/... ./tunnel/... ./hub/...

# What the tests in network namespaces, and those with real SSH programs, run beside our own code.
NETNS_TOOLS := nft ip conntrack curl nginx haproxy iperf3 socat nc nmap hping3 wrk slowhttptest dnsmasq dig dnsperf \
               ssh sshd ssh-audit autossh dbclient plink python3 proxychains4 redsocks connect-proxy tinyproxy microsocks danted \
               vsftpd lftp tnftp tftp in.tftpd miniupnpd upnpc natpmpc gssdp-discover stun stund turnserver turnutils_natdiscovery \
               transmission-daemon tcpdump \
               ufw firewalld firewall-cmd dbus-daemon unshare iptables-nft ip6tables-nft iptables-nft-restore ip6tables-nft-restore \
               iptables-legacy-restore iptables-legacy-save openssl wg wireguard-go pebble pebble-challtestsrv

.PHONY: all build
all build:
	$(GOBUILD) -o bin/fairlead ./cmd/fairlead

# Tests that need root and namespaces skip themselves with a reason, unless FAIRLEAD_NETNS=require tells them to fail instead.
.PHONY: test
test:
	go vet ./...
	@missing=; PATH="$(CURDIR)/bin:$$PATH"; for tool in $(NETNS_TOOLS); do command -v $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	if [ -z "$$FAIRLEAD_NETNS" ]; then \
		if [ "$$(uname -s)" != Linux ]; then echo "make test: skipping what needs Linux: network namespaces and nftables"; \
		elif [ "$$(id -u)" != 0 ]; then echo "make test: skipping what needs root: network namespaces and nftables"; \
		elif [ -n "$$missing" ]; then echo "make test: skipping what needs network namespaces: not installed:$$missing"; \
		else FAIRLEAD_NETNS=require; export FAIRLEAD_NETNS; fi; \
	fi; \
	echo "go test $(TESTFLAGS) ./..."; go test $(TESTFLAGS) ./...

# Test servers that no distribution has: pebble, for certificates. They are kept in bin.
.PHONY: testtools
testtools:
	go build -C tools -o $(CURDIR)/bin/pebble github.com/letsencrypt/pebble/v2/cmd/pebble
	go build -C tools -o $(CURDIR)/bin/pebble-challtestsrv github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv

.PHONY: race
race:
	CGO_ENABLED=1 go test -race $(TESTFLAGS) $(RACE)

# Every fuzz target for FUZZTIME. Go at times reports the end of that time as a failure, with no failing input (golang/go
# issue 75804): then, and only then, the target is run again. A target of one package is named as often as there is a function, so nothing is forgotten.
.PHONY: fuzz
fuzz:
	@found=0; for file in $$(git ls-files --cached --others --exclude-standard '*_test.go'); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "fuzz $$(dirname $$file) $$target"; found=$$((found + 1)); \
			for try in 1 2 3; do \
				out=$$(go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) ./$$(dirname $$file) 2>&1) && { echo "$$out"; break; }; \
				echo "$$out"; case "$$out" in *"Failing input"*) exit 1;; *"context deadline exceeded"*) [ $$try -lt 3 ] || exit 1;; *) exit 1;; esac; \
			done; \
		done; \
	done; echo "$$found fuzz targets, $(FUZZTIME) each"; [ $$found -gt 0 ]

# The first build of the linter takes minutes; it is kept in bin.
.PHONY: lint
lint:
	go build -C tools -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...

.PHONY: bench
bench:
	go run ./bench

# The programs beside which section g of the benchmark measures reverse tunnels: as their makers pin what they are made of, and
# apart from this module. "go install" does not take one whose go.mod replaces something.
PEERS := github.com/fatedier/frp@v0.65.0:./cmd/frps github.com/fatedier/frp@v0.65.0:./cmd/frpc github.com/jpillora/chisel@v1.10.1:.
.PHONY: peers
peers:
	@mkdir -p bin/peers
	@set -e; for peer in $(PEERS); do \
		dir=$$(go mod download -json $${peer%%:*} | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); \
		echo "build $$peer"; \
		CGO_ENABLED=0 GOWORK=off go build -C "$$dir" -trimpath -o '$(CURDIR)/bin/peers/' $${peer##*:}; \
	done

# docs/reference is generated; house tests and CI compare it.
.PHONY: docs
docs:
	rm -rf docs/reference
	go run ./cmd/fairlead man --markdown docs/reference

.PHONY: deps
deps:
	go test . -run '^TestLinkedModules$$' -update

.PHONY: cross
cross:
	@set -e; for target in $(TARGETS); do \
		os=$${target%%/*}; arch=$${target#*/}; variant=$${arch#*/}; arch=$${arch%%/*}; \
		echo "vet and build $$target"; \
		env CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch GOARM=$$variant GOMIPS=$$variant sh -ec '\
			case $$GOARCH in arm) unset GOMIPS;; mips*) unset GOARM;; *) unset GOARM GOMIPS;; esac; \
			go build -trimpath ./... ; go vet ./...'; \
	done

# dist/fairlead_VERSION_linux_ARCH.tar.gz and dist/fairlead_VERSION_ARCH.deb
.PHONY: dist
dist:
	VERSION=$(VERSION) packaging/build dist $(ARCH)

.PHONY: install
install: build
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' packaging/layout bin/fairlead

# The systemd unit in a booted container: root, systemd-nspawn.
.PHONY: test-unit
test-unit:
	packaging/test-unit

.PHONY: clean
clean:
	rm -rf bin dist

.PHONY: help
help:
	@echo 'make            bin/fairlead'
	@echo 'make test       go vet, and every test that this machine and user can run'
	@echo 'make testtools  test servers that no distribution has, into bin'
	@echo 'make race       the tests of the main packages under the race detector'
	@echo 'make fuzz       every fuzz target for a short time (FUZZTIME=10s)'
	@echo 'make lint       golangci-lint; its first build takes minutes'
	@echo 'make bench      the measurements, into bench/results'
	@echo 'make peers      frp and chisel into bin/peers, for make bench'
	@echo 'make docs       docs/reference from the code'
	@echo 'make deps       deps.txt, the modules linked into the Linux binary'
	@echo 'make cross      vet and build for every system that is supported'
	@echo 'make dist       a tar and a Debian package (ARCH=arm64 for another machine)'
	@echo 'make install    into /usr/local (PREFIX, DESTDIR)'
	@echo 'make test-unit  the systemd unit, in a booted container'
