/*
 * Makes one call of the C library fail as a bad disk would. Load it with LD_PRELOAD; the environment controls it:
 *
 *   AR7_FAIL_CALL    the function, by the names below
 *   AR7_FAIL_AT      the number of the call that fails, from 0, counted over all threads
 *   AR7_FAIL_ERROR   the value of errno, or 0 for a call that does half of its work
 *   AR7_FAIL_REPORT  a file that is created when the call fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

/* The next definition of this function, in the C library. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Returns the error if this call must fail, otherwise -1. */
static int due(const char *name)
{
	const char *call = getenv("AR7_FAIL_CALL"), *at = getenv("AR7_FAIL_AT");
	const char *error = getenv("AR7_FAIL_ERROR"), *report = getenv("AR7_FAIL_REPORT");
	int file;

	if (!call || !at || !error || !report || strcmp(call, name) != 0)
		return -1;
	if (atomic_fetch_add(&calls, 1) != atol(at))
		return -1;
	file = open(report, O_CREAT | O_WRONLY, 0600);
	if (file >= 0)
		close(file);
	return atoi(error);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
	/* A direct write counts as a separate function. */
	int direct = fcntl(file, F_GETFL) & O_DIRECT;
	int error = due(direct ? "pwrite64_direct" : "pwrite64");
	const char *call = getenv("AR7_FAIL_CALL");

	/* Write-back is started only if the write is not direct. */
	if (direct && call && strcmp(call, "sync_file_range") == 0)
		return errno = EINVAL, -1;

	if (error > 0)
		return errno = error, -1;
	return NEXT(pwrite64)(file, bytes, error == 0 ? length / 2 : length, offset);
}

ssize_t pread64(int file, void *bytes, size_t length, off64_t offset)
{
	int error = due("pread64");

	if (error > 0)
		return errno = error, -1;
	return NEXT(pread64)(file, bytes, error == 0 ? length / 2 : length, offset);
}

int fdatasync(int file)
{
	int error = due("fdatasync");

	return error > 0 ? (errno = error, -1) : NEXT(fdatasync)(file);
}

int fsync(int file)
{
	int error = due("fsync");

	return error > 0 ? (errno = error, -1) : NEXT(fsync)(file);
}

int ftruncate64(int file, off64_t length)
{
	int error = due("ftruncate64");

	return error > 0 ? (errno = error, -1) : NEXT(ftruncate64)(file, length);
}

int sync_file_range(int file, off64_t offset, off64_t length, unsigned int flags)
{
	int error = due("sync_file_range");

	return error > 0 ? (errno = error, -1) : NEXT(sync_file_range)(file, offset, length, flags);
}

void *mmap64(void *address, size_t length, int protection, int flags, int file, off64_t offset)
{
	int error = file >= 0 && length >= 1 << 20 ? due("mmap64") : -1;

	return error > 0 ? (errno = error, MAP_FAILED) : NEXT(mmap64)(address, length, protection, flags, file, offset);
}

/* The same function under its other name, which some callers use. */
void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset)
{
	int error = file >= 0 && length >= 1 << 20 ? due("mmap64") : -1;

	return error > 0 ? (errno = error, MAP_FAILED) : NEXT(mmap)(address, length, protection, flags, file, offset);
}
