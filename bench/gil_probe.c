/* Preloaded into a Python process: how long the GIL is held, and the CPU time of each thread.
 *
 * CPython sets and clears gil->locked under gil->mutex, a pthread mutex (Python/ceval_gil.c:
 * take_gil, drop_gil). So this file stands in for pthread_mutex_unlock: at each unlock of that
 * mutex it looks whether `locked` has changed since the last unlock, and notes the time. Nothing is
 * sampled: each hold counts, to the resolution of the clock. A wait for the GIL begins at the lock
 * of that mutex by a thread that then takes the GIL.
 *
 * Also stands in for pthread_create, to note each thread's CPU time and name when it ends.
 * Results go to the file GIL_PROBE_OUT at exit: lines of a kind and name=value pairs.
 */
#define _GNU_SOURCE
#define Py_BUILD_CORE 1
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"

#define MAX_THREADS 1024
#define MAX_MARKS 16

typedef struct {
    pthread_t thread;
    char name[32];
    int ended;
    int64_t cpu, held, held_cpu, waited, takes; /* nanoseconds, and a count */
} Slot;

typedef struct {
    char name[32];
    int64_t wall, process_cpu, main_cpu, held, held_cpu, waited, takes;
} Mark;

static Slot slots[MAX_THREADS];
static int slot_count = 1; /* the first one is the main thread's */
static Mark marks[MAX_MARKS];
static int mark_count;
static pthread_mutex_t *gil_mutex;
static volatile int *gil_locked;
static int was_locked;
static Slot *holder;
static int64_t taken, taken_cpu;
static __thread Slot *own;
static __thread int64_t asked;

static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static Slot *own_slot(void) { return own ? own : &slots[0]; }

static void note_gil(void) { /* under gil->mutex */
    int locked = *gil_locked != 0;
    if (locked == was_locked) return;
    was_locked = locked;
    int64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    if (locked) {
        holder = own_slot();
        taken = wall;
        taken_cpu = cpu;
        holder->takes++;
        holder->waited += asked ? wall - asked : 0;
    } else {
        holder->held += wall - taken;
        holder->held_cpu += cpu - taken_cpu;
    }
    asked = 0;
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    static int (*real)(pthread_mutex_t *);
    if (!real) real = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    if (mutex == gil_mutex) asked = now(CLOCK_MONOTONIC);
    return real(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    static int (*real)(pthread_mutex_t *);
    if (!real) real = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    if (mutex == gil_mutex) note_gil();
    return real(mutex);
}

typedef struct {
    void *(*work)(void *);
    void *argument;
    Slot *slot;
} Start;

static void end_thread(void *slot) {
    Slot *mine = slot;
    mine->cpu = now(CLOCK_THREAD_CPUTIME_ID);
    if (!mine->name[0]) prctl(PR_GET_NAME, mine->name);
    mine->ended = 1;
}

static void *run_thread(void *given) {
    Start start = *(Start *)given;
    void *result;
    free(given);
    own = start.slot;
    own->thread = pthread_self();
    pthread_cleanup_push(end_thread, own);
    result = start.work(start.argument);
    pthread_cleanup_pop(1);
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *),
                   void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    int number = __atomic_fetch_add(&slot_count, 1, __ATOMIC_RELAXED);
    Start *start = malloc(sizeof *start);
    if (number >= MAX_THREADS || !start) abort();
    *start = (Start){work, argument, &slots[number]};
    return real(thread, attributes, run_thread, start);
}

/* Called by probed.py with the GIL held. Returns 1 if this Python runs with a GIL. */
int probe_start(void) {
#ifdef Py_GIL_DISABLED
    PyInterpreterState *(*get)(void);
    *(void **)&get = dlsym(RTLD_DEFAULT, "PyInterpreterState_Get");
    if (!get()->ceval.gil->enabled) return 0;
#endif
#if PY_VERSION_HEX >= 0x030C0000
    PyInterpreterState *(*interpreter)(void);
    *(void **)&interpreter = dlsym(RTLD_DEFAULT, "PyInterpreterState_Get");
    struct _gil_runtime_state *gil = interpreter()->ceval.gil;
#else
    _PyRuntimeState *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    struct _gil_runtime_state *gil = &runtime->ceval.gil;
#endif
    was_locked = 1;
    holder = own_slot();
    taken = now(CLOCK_MONOTONIC);
    taken_cpu = now(CLOCK_THREAD_CPUTIME_ID);
    gil_locked = (volatile int *)&gil->locked;
    __atomic_store_n(&gil_mutex, &gil->mutex, __ATOMIC_RELEASE);
    return 1;
}

/* Name of the calling thread. */
void probe_name(const char *name) { snprintf(own_slot()->name, sizeof own->name, "%s", name); }

/* Note the sums so far. Called by the main thread with the GIL held. */
void probe_mark(const char *name) {
    if (mark_count >= MAX_MARKS) abort();
    Mark *mark = &marks[mark_count++];
    snprintf(mark->name, sizeof mark->name, "%s", name);
    mark->wall = now(CLOCK_MONOTONIC);
    mark->process_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    mark->main_cpu = now(CLOCK_THREAD_CPUTIME_ID);
    int count = __atomic_load_n(&slot_count, __ATOMIC_RELAXED);
    for (int i = 0; i < count; i++) {
        mark->held += slots[i].held;
        mark->held_cpu += slots[i].held_cpu;
        mark->waited += slots[i].waited;
        mark->takes += slots[i].takes;
    }
    if (gil_mutex) { /* the hold that is not ended */
        mark->held += mark->wall - taken;
        mark->held_cpu += mark->main_cpu - taken_cpu;
    }
}

__attribute__((destructor)) static void write_results(void) {
    const char *path = getenv("GIL_PROBE_OUT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    for (int i = 0; i < mark_count; i++) {
        Mark *m = &marks[i];
        fprintf(file, "mark name=%s wall=%ld process_cpu=%ld main_cpu=%ld held=%ld held_cpu=%ld "
                "waited=%ld takes=%ld\n", m->name, (long)m->wall, (long)m->process_cpu,
                (long)m->main_cpu, (long)m->held, (long)m->held_cpu, (long)m->waited,
                (long)m->takes);
    }
    slots[0].thread = pthread_self(); /* destructors run in the main thread */
    for (int i = 0; i < slot_count; i++) {
        Slot *s = &slots[i];
        clockid_t clock;
        if (!s->ended && s->thread && !pthread_getcpuclockid(s->thread, &clock)) {
            s->cpu = now(clock);
            if (!s->name[0]) pthread_getname_np(s->thread, s->name, sizeof s->name);
        }
        for (char *c = s->name; *c; c++)
            if (*c == ' ') *c = '-';
        fprintf(file, "thread name=%s cpu=%ld held=%ld held_cpu=%ld waited=%ld takes=%ld\n",
                i ? s->name : "main", (long)s->cpu, (long)s->held, (long)s->held_cpu,
                (long)s->waited, (long)s->takes);
    }
    fclose(file);
}
