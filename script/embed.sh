#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes a file as a C array to standard output: embed.sh NAME FILE
set -eu
echo "/* Made from $(basename "$2"); do not edit. */"
echo "static const unsigned char $1[] = {"
od -An -v -tu1 "$2" | sed 's/\([0-9][0-9]*\)/\1,/g'
echo "};"
