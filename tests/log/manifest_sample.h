/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Manifest sample: manifests that are a function of their number and size, so that any one read can be compared without
 * keeping it. Failures end the test.
 */
#include "log/manifest.h"
#include "tests/disk/virtual_disk.h"

#define MANIFEST_DIR "data/checkpoint"

/* A disk with the directory. */
struct virtual_disk *manifest_disk(uint64_t seed);
void manifest_path(uint64_t number, char ret[128]);

enum mr_status manifest_build(uint64_t number, size_t size, struct mr_manifest *ret);
void manifest_must_equal(const struct mr_manifest *a, const struct mr_manifest *b);
/* Builds and writes. */
enum mr_status manifest_write(struct mr_disk *disk, uint64_t number, size_t size,
                              struct mr_error *error);
/* Reads; what is read must be what was built. */
enum mr_status manifest_read(struct mr_disk *disk, uint64_t number, size_t size,
                             struct mr_error *error);
