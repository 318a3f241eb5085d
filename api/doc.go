// Package api is the control interface of a running daemon: HTTP and JSON on a unix socket, the server and the client in
// one room so that they cannot drift apart.
//
// The server turns requests into calls of the table and the table's answers into JSON; it decides nothing about forwards
// and keeps nothing between requests. No carrier, no store and no command line may come in here.
package api
