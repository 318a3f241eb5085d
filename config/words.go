package config

import "strings"

// otherWords are our keys for what other programs call word, the likeliest first. Words of ssh_config(5) and sshd_config(5)
// come as they are there, or with underscores.
func otherWords(word string) []string {
	switch strings.ReplaceAll(word, "_", "") {
	case "target", "targets", "dest", "destination", "upstream", "upstreams", "backend", "remote", "dst":
		return []string{"to", "ssh"}
	case "socks", "socks4", "socks5", "proxy", "httpproxy", "dynamic":
		return []string{"to"}
	case "host", "hostname", "server":
		return []string{"to", "ssh", "node"}
	case "port", "ports", "bind", "address", "local", "protocol", "proto", "network", "listenaddress":
		return []string{"listen", "ssh"}
	case "allow", "clients":
		return []string{"from", "permit"}
	case "allowfrom", "src", "sourceip", "whitelist":
		return []string{"from"}
	case "permitopen", "allowed":
		return []string{"permit"}
	case "exclude", "block":
		return []string{"except", "deny"}
	case "iface", "device", "dev", "ininterface":
		return []string{"interface"}
	case "disabled", "enable", "active":
		return []string{"enabled"}
	case "schedule", "hours":
		return []string{"when"}
	case "rate", "ratelimit", "limit":
		return []string{"bandwidth"}
	case "maxconn", "maxsessions":
		return []string{"max_connections"}
	case "proxyprotocol":
		return []string{"send_proxy"}
	case "timeout", "proxytimeout", "timeoutclient", "timeoutserver", "sessiontimeout":
		return []string{"idle_timeout"}
	case "proxyconnecttimeout", "timeoutconnect", "dialtimeout":
		return []string{"connect_timeout"}
	case "udptimeout":
		return []string{"udp_idle"}
	case "healthcheck":
		return []string{"check"}
	case "inter":
		return []string{"check_interval"}
	case "mac", "wol", "wakeonlan":
		return []string{"wake"}
	case "secureon":
		return []string{"wake_password"}
	case "tfo":
		return []string{"fast_open"}
	case "noproxy", "bypass":
		return []string{"direct"}
	case "pacfile", "wpad":
		return []string{"pac"}
	}
	if words := siteWords(strings.ReplaceAll(word, "_", "")); words != nil {
		return words
	}
	return sshWords(strings.ReplaceAll(word, "_", ""))
}

// siteWords is otherWords for what belongs to names on one port.
func siteWords(word string) []string {
	switch word {
	case "servername", "domain", "domains", "customdomains", "vhost", "virtualhost", "sni", "names", "hostnames":
		return []string{"host"}
	case "certificate", "certfile", "sslcertificate", "tlscert", "crt":
		return []string{"cert"}
	case "sslcertificatekey", "tlskey", "certkey":
		return []string{"key"}
	case "ssl", "letsencrypt", "autocert":
		return []string{"tls", "acme"}
	case "basicauth", "login", "openid":
		return []string{"auth"}
	case "errorpage", "maintenance", "custom404page":
		return []string{"away_page"}
	case "forcehttps", "httpsonly", "httpsredirect":
		return []string{"redirect_https"}
	}
	return nil
}

// sshWords is otherWords for what belongs to SSH and to logging in.
func sshWords(word string) []string {
	switch word {
	case "ssh", "node", "bastion":
		return []string{"via", "node"}
	case "hosts":
		return []string{"node"}
	case "proxyjump", "jump", "jumphost", "gateway":
		return []string{"jump", "via"}
	case "identityfile", "identities", "key", "keys", "keyfile", "privatekey":
		return []string{"identity", "authorized_keys"}
	case "hostkey", "hostkeyfile":
		return []string{"host_keys", "known_hosts"}
	case "userknownhostsfile", "knownhostsfile", "globalknownhostsfile":
		return []string{"known_hosts"}
	case "stricthostkeychecking":
		return []string{"accept_new"}
	case "serveraliveinterval", "clientaliveinterval", "aliveinterval":
		return []string{"keepalive"}
	case "identityagent", "sshagent", "authsock":
		return []string{"agent"}
	case "configfile", "sshconfig":
		return []string{"config"}
	case "authorizedkeysfile":
		return []string{"authorized_keys"}
	case "trustedusercakeys", "userca", "ca", "cas":
		return []string{"user_cas"}
	case "logingracetime", "grace":
		return []string{"login_grace"}
	case "pass", "passwd", "hash", "passwordhash", "secret":
		return []string{"password"}
	case "user", "username", "auth", "accounts", "login":
		return []string{"users", "ssh"}
	}
	return nil
}
