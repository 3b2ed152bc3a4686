# Small convolutions in one call. They are most of all calls, and take as long to begin as to
# compute, so what is the same each time is done once, when the plan is made.

from cpython.buffer cimport PyBUF_SIMPLE


cdef bint hold_whole(tuple arrays, out, const Py_ssize_t* sizes, Py_ssize_t itemsize, Held* held) noexcept:
    """Take hold of the memory of two or three arrays and of `out`, of so many items each. False, and
    nothing held, where one is not C-contiguous and aligned, or has another size. The third array may be
    None, which is no memory."""
    cdef Py_ssize_t i, number = len(arrays)
    cdef Py_buffer* buffer
    hold_nothing(held)
    try:
        for i in range(number + 1):
            buffer = &held.buffers[i]
            if i == 2 < number and arrays[i] is None:
                memset(buffer, 0, sizeof(Py_buffer))
                held.count += 1
                continue
            PyObject_GetBuffer(
                out if i == number else arrays[i], buffer, PyBUF_WRITABLE if i == number else PyBUF_SIMPLE
            )
            held.count += 1
            if buffer.len != sizes[3 if i == number else i] * itemsize or <size_t>buffer.buf % itemsize:
                let_go(held)
                return False
    except (BufferError, TypeError, ValueError):
        let_go(held)
        return False
    return True


cdef class Whole:
    """A forward pass or an input gradient of `direct` whose tasks have one box, in one call:
    whole((x, w, b), y), or without b, fills y and returns True. Where an array is not C-contiguous
    and aligned, or has another size, it does nothing and returns False."""

    cdef Direct g
    cdef Source source
    cdef Held held  # the tables, for as long as this lives
    cdef const Array* axes
    cdef const Array* tasks
    cdef Py_ssize_t[4] sizes
    cdef Py_ssize_t[5] x, y, y_steps
    cdef const Py_ssize_t* steps
    cdef Py_ssize_t itemsize, channels, filters, image_step

    def __cinit__(self):
        self.g.taps = NULL
        hold_nothing(&self.held)

    def __init__(
        self, axes, steps, Py_ssize_t groups, Py_ssize_t together, tasks, Py_ssize_t weights, Py_ssize_t images,
        Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize,
    ):
        self.lay_out(axes, groups, tasks, images, channels, filters, itemsize)
        self.steps = hold_steps(&self.held, steps)
        check_direct(self.x, weights, self.y, self.axes, self.steps, self.tasks, groups)
        if together < 1:
            raise ValueError(f"there must be a channel together, not {together}")
        self.sizes = [self.sizes[0], weights, filters, images * self.y_steps[0]]
        lay_out_direct(
            &self.g, self.axes, self.tasks, self.steps, min(together, self.channels), self.filters, &self.source,
            itemsize,
        )
        self.place()

    cdef int lay_out(
        self, axes_array, Py_ssize_t groups, tasks_array, Py_ssize_t images, Py_ssize_t channels, Py_ssize_t filters,
        Py_ssize_t itemsize,
    ) except -1:
        """Note where C-contiguous arrays x (images, channels, ...) and y (images, filters, ...) have
        what."""
        if self.held.count:
            raise ValueError("made twice")
        cdef const Array* axes = hold_table(&self.held, axes_array, "axes")
        cdef const Array* tasks = hold_table(&self.held, tasks_array, "tasks")
        if tasks.shape[0] == 0 or groups < 1 or channels % groups or filters % groups:
            raise ValueError("without tasks, or with groups that are not whole")
        if itemsize not in (4, 8):
            raise ValueError(f"items must be float32 or float64, not of {itemsize} bytes")
        check_numbers(axes, tasks)
        cdef double image = at(axes, 0, SIZE) * <double>at(axes, 1, SIZE) * at(axes, 2, SIZE)
        image = max(image, at(axes, 0, OUTPUT) * <double>at(axes, 1, OUTPUT) * at(axes, 2, OUTPUT))
        if min(images, channels, filters) < 1 or images * <double>max(channels, filters) * image > MOST_ITEMS:
            raise ValueError(f"no array has {images} images, {channels} channels and {filters} filters of this size")
        cdef Py_ssize_t i
        for i in range(tasks.shape[0]):
            if not same_box(row_of(tasks, 0), row_of(tasks, i), BOX):
                raise ValueError("all tasks must have the same box")
        self.axes, self.tasks, self.itemsize = axes, tasks, itemsize
        self.channels, self.filters = channels // groups, filters // groups
        self.x = [images, channels, at(axes, 0, SIZE), at(axes, 1, SIZE), at(axes, 2, SIZE)]
        self.y = [images, filters, at(axes, 0, OUTPUT), at(axes, 1, OUTPUT), at(axes, 2, OUTPUT)]
        cdef Py_ssize_t row = self.x[4], plane = self.x[3] * row, volume = self.x[2] * plane
        self.source = Source(volume, plane, row, 1)
        self.image_step = channels * volume
        self.sizes = [images * self.image_step, 0, 0, 0]
        row = self.y[4]
        plane = self.y[3] * row
        volume = self.y[2] * plane
        self.y_steps = [filters * volume, volume, plane, row, 1]
        return 0

    cdef int place(self) except -1:
        """Lay out the only box, for all calls."""
        if not self.g.in_place:
            place_box(&self.g.band, self.axes, row_of(self.tasks, 0) + BOX)
        self.g.placed = True
        return 0

    def __dealloc__(self):
        free(self.g.taps)
        let_go(&self.held)

    def __call__(self, tuple arrays not None, out):
        cdef Held held
        cdef bint done
        if self.g.taps == NULL or not 2 <= len(arrays) <= 3 or not hold_whole(arrays, out, self.sizes, self.itemsize, &held):
            return False
        cdef void* b = held.buffers[2].buf if len(arrays) == 3 else NULL
        cdef void* y = held.buffers[len(arrays)].buf
        try:
            with nogil:
                if self.itemsize == 4:
                    done = self.run(<const float*>held.buffers[0].buf, <const float*>held.buffers[1].buf, <const float*>b, <float*>y)
                else:
                    done = self.run(<const double*>held.buffers[0].buf, <const double*>held.buffers[1].buf, <const double*>b, <double*>y)
        finally:
            let_go(&held)
        return done

    cdef bint run(self, const real* x, const real* w, const real* b, real* y) noexcept nogil:
        cdef long long taken = 0
        cdef Direct g = self.g
        cdef real* memory = <real*>malloc((g.memory + 1) * sizeof(real))
        if memory == NULL:
            return False
        direct_tasks(
            &g, x, self.image_step, &self.source, w, b, y, self.y_steps, self.channels, self.filters, self.axes,
            self.steps, self.tasks, &taken, False, memory,
        )
        free(memory)
        return True


cdef class WholeWeightGrad(Whole):
    """The weight gradient in one call, of one share: whole((dy, x), dw)."""

    cdef const Array* shares
    cdef const Array* blocks
    cdef Py_ssize_t columns, positions, groups
    cdef Step step

    def __init__(
        self, axes, Py_ssize_t groups, tasks, shares, blocks, Py_ssize_t columns, Py_ssize_t images,
        Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize,
    ):
        self.lay_out(axes, groups, tasks, images, channels, filters, itemsize)
        self.shares, self.blocks = hold_table(&self.held, shares, "shares"), hold_table(&self.held, blocks, "blocks")
        cdef Py_ssize_t taps = at(self.axes, 0, KERNEL) * at(self.axes, 1, KERNEL) * at(self.axes, 2, KERNEL)
        # As for a forward pass into an array that has channels where this one has filters.
        cdef Py_ssize_t[5] turned = [images, channels, self.y[2], self.y[3], self.y[4]]
        check_direct(self.x, 1, turned, self.axes, NO_STEPS, self.tasks, groups)
        check_shares(self.tasks, self.shares, self.blocks, 1, groups, self.channels * taps)
        cdef double sums = columns * <double>channels * taps
        if columns < self.filters or columns % (VECTOR_BYTES // itemsize) or sums > MOST_ITEMS:
            raise ValueError(f"columns must be {self.filters} or more, in whole vectors; got {columns}")
        # In the order of the arguments: dy, x, (none,) dw.
        self.sizes = [
            images * self.y_steps[0], images * self.image_step, 0, filters * self.channels * taps
        ]
        self.step = Step(self.y_steps[0], self.y_steps[1], self.y_steps[2], self.y_steps[3], 1)
        self.columns, self.positions, self.groups = columns, most_positions(self.tasks), groups
        lay_out_direct(&self.g, self.axes, self.tasks, NO_STEPS, self.channels, 0, &self.source, itemsize)
        self.place()

    def __call__(self, tuple arrays not None, out):
        cdef Held held
        cdef bint done
        if self.g.taps == NULL or len(arrays) != 2 or not hold_whole(arrays, out, self.sizes, self.itemsize, &held):
            return False
        try:
            with nogil:
                if self.itemsize == 4:
                    done = self.sum(<const float*>held.buffers[0].buf, <const float*>held.buffers[1].buf, <float*>held.buffers[2].buf)
                else:
                    done = self.sum(<const double*>held.buffers[0].buf, <const double*>held.buffers[1].buf, <double*>held.buffers[2].buf)
        finally:
            let_go(&held)
        return done

    cdef bint sum(self, const real* dy, const real* x, real* dw) noexcept nogil:
        cdef long long[3] progress = [0, 0, 0]
        cdef Direct g = self.g
        cdef Py_ssize_t rows = self.groups * self.channels * (g.band.axes[0].kernel * g.band.axes[1].kernel * g.band.axes[2].kernel)
        cdef Py_ssize_t items = g.memory + self.positions * self.columns
        cdef Tap* listed = <Tap*>malloc((self.positions + AHEAD) * sizeof(Tap))
        cdef real* memory = <real*>malloc((items + rows * self.columns) * sizeof(real))
        if memory != NULL and listed != NULL:
            weight_grad(
                &g, dy, &self.step, x, self.image_step, &self.source, memory + items, 1, self.columns, self.groups,
                self.filters, self.channels, dw, self.axes, self.tasks, self.shares, self.blocks, progress, listed,
                memory, self.positions,
            )
        free(memory)
        free(listed)
        return memory != NULL and listed != NULL
