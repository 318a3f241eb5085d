module github.com/fairlead-net/fairlead

go 1.26.0
