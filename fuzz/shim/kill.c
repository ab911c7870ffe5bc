/*
 * Kills the process at one call that changes a file. Load it with LD_PRELOAD; the environment controls it:
 *
 *   AR7_KILL_AT      the number of the call, from 0, counted over all threads: positioned writes, syncs and truncations
 *   AR7_KILL_HOW     "before" the call, after "half" of the blocks of a write, "after" the call, or "cut": before the call,
 *                    as by a power cut that loses some of the blocks that were written since the last sync
 *   AR7_KILL_REPORT  a file that gets the name of the call before the process dies
 *
 * The process writes one file, maybe through several descriptors.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define BLOCK 4096

/* What a write has replaced since the last sync. */
struct replaced {
	struct replaced *older;
	off64_t offset;
	size_t length;
	unsigned char bytes[];
};

static atomic_long calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct replaced *newest;
/* A descriptor of the file without O_DIRECT, and the length at the last sync. */
static int plain = -1;
static off64_t synced_length;

/* The next definition of this function, in the C library. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is(const char *how, const char *wanted)
{
	return how && strcmp(how, wanted) == 0;
}

static int cuts(void)
{
	return is(getenv("AR7_KILL_HOW"), "cut");
}

/* Returns how the process must die at this call; NULL if it must not. */
static const char *due(void)
{
	const char *at = getenv("AR7_KILL_AT"), *how = getenv("AR7_KILL_HOW");

	return at && how && atomic_fetch_add(&calls, 1) == atol(at) ? how : NULL;
}

static off64_t length_of(int file)
{
	struct stat64 found;

	return fstat64(file, &found) == 0 ? found.st_size : 0;
}

/* Keeps what a write is going to replace. */
static void keep(int file, size_t length, off64_t offset)
{
	struct replaced *replaced = calloc(1, sizeof *replaced + length);
	char path[64];

	if (plain < 0) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", file);
		plain = open(path, O_RDWR | O_CLOEXEC);
		synced_length = length_of(plain);
	}
	if (!replaced || plain < 0)
		abort();
	replaced->older = newest;
	replaced->offset = offset;
	replaced->length = length;
	/* What is beyond the end of the file stays zeros. */
	if (pread64(plain, replaced->bytes, length, offset) < 0)
		abort();
	newest = replaced;
}

static void forget(void)
{
	struct replaced *older;

	for (; newest; newest = older) {
		older = newest->older;
		free(newest);
	}
	synced_length = length_of(plain);
}

/* Whether a block, or the growth of the file, is lost. All of its writes are, or none. */
static int is_lost(unsigned long block)
{
	unsigned long at = strtoul(getenv("AR7_KILL_AT"), NULL, 10);

	return (block + 1) * (2 * at + 0x9e3779b97f4a7c15) >> 40 & 1;
}

static void lose(void)
{
	off64_t done, length, offset;

	for (struct replaced *each = newest; each; each = each->older) {
		for (done = 0; done < (off64_t)each->length; done += length) {
			offset = each->offset + done;
			length = BLOCK - offset % BLOCK;
			if (length > (off64_t)each->length - done)
				length = each->length - done;
			if (is_lost(offset / BLOCK)
			    && NEXT(pwrite64)(plain, each->bytes + done, length, offset) != length)
				abort();
		}
	}
	if (plain >= 0 && length_of(plain) > synced_length && is_lost(-2)
	    && NEXT(ftruncate64)(plain, synced_length) != 0)
		abort();
}

static void die(const char *how, const char *name)
{
	const char *report = getenv("AR7_KILL_REPORT");
	int file = report ? open(report, O_CREAT | O_WRONLY | O_TRUNC, 0600) : -1;

	/* Without the name, the existence of the file tells enough. */
	if (file >= 0 && write(file, name, strlen(name)) < 0)
		close(file);
	if (is(how, "cut"))
		lose();
	for (;;)
		kill(getpid(), SIGKILL);
}

static void begin(void)
{
	if (cuts())
		pthread_mutex_lock(&lock);
}

static void end(void)
{
	if (cuts())
		pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
	const char *how;
	ssize_t written;

	begin();
	how = due();
	if (is(how, "before") || is(how, "cut"))
		die(how, "write");
	if (cuts())
		keep(file, length, offset);
	written = NEXT(pwrite64)(file, bytes, is(how, "half") ? length / 2 / BLOCK * BLOCK : length, offset);
	if (how)
		die(how, "write");
	end();
	return written;
}

int fdatasync(int file)
{
	const char *how;
	int outcome;

	begin();
	how = due();
	if (how && !is(how, "after"))
		die(how, "sync");
	outcome = NEXT(fdatasync)(file);
	if (how)
		die(how, "sync");
	if (cuts() && outcome == 0)
		forget();
	end();
	return outcome;
}

int ftruncate64(int file, off64_t length)
{
	const char *how;
	int outcome;

	begin();
	how = due();
	if (how && !is(how, "after"))
		die(how, "truncation");
	outcome = NEXT(ftruncate64)(file, length);
	if (how)
		die(how, "truncation");
	end();
	return outcome;
}
